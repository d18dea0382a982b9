"""What ranks the candidates of a sweep, as reports and the log name it."""

from typing import NamedTuple

from nas_jax.oneshot import class_metrics


class RankingMetric(NamedTuple):
    """The metric that ranks the candidates of a sweep.

    Attributes:
      name: in reports.
      unit: in which reports print it; "": none.
      factor: from a trial's value to that unit.
      judge: in words, what stand-alone networks are judged by.
      on_valid: whether it is taken on validation images, as are the accuracies of the protocol
        "short".
    """

    name: str
    unit: str
    factor: float
    on_valid: bool
    judge: str = "accuracy"

    @property
    def label(self) -> str:
        """Name an axis or a column."""
        return f"{self.name} ({self.unit})" if self.unit else self.name

    def written(self, value: float) -> str:
        """Write the value of a trial with its unit."""
        return f"{self.factor * value:.2f}{self.unit and f' {self.unit}'}"

    @property
    def is_accuracy(self) -> bool:
        """Whether it is a share of images, in per cent."""
        return self.unit == "%"


_TRAINING_FREE = {
    "grad_norm": "gradient norm",
    "snip": "SNIP",
    "synflow": "log of SynFlow",
    "jacob_cov": "Jacobian covariance",
    "naswot": "NASWOT",
    "zen": "Zen score",
    "zico": "ZiCo",
    "expressivity": "expressivity",
    "progressivity": "progressivity",
    "trainability": "trainability",
}
RANKING_METRICS = {  # by sweep.score
    "accuracy": RankingMetric("one-shot accuracy", "%", 100, True),
    "loss": RankingMetric("minus the validation loss", "nats", 1, True),
    "train_loss": RankingMetric("minus the training loss", "nats", 1, False),
    "kl": RankingMetric("minus the KL divergence", "nats", 1, False),
    "params": RankingMetric("parameters", "", 1, False),
    "flops": RankingMetric("multiply-adds", "", 1, False),
    "shortest_path": RankingMetric("minus the shortest path", "ops", 1, False),
    "table": RankingMetric("accuracy in the table", "%", 100, False),
    "trained": RankingMetric("accuracy after a short training", "%", 100, True),
    **{name: RankingMetric(title, "", 1, False) for name, title in _TRAINING_FREE.items()},
    "ensemble": RankingMetric("combined rank", "", 1, False),
}


def ranking_metric(evaluator: str, metric: str = "accuracy") -> RankingMetric:
    """Return the metric of a sweep; values of a plug-in are reported as they are.

    Args:
      evaluator: `sweep.score`.
      metric: `config.metric`.
    """
    unknown = RankingMetric(f"value of {evaluator}", "", 1, False)
    ranking, words = RANKING_METRICS.get(evaluator, unknown), class_metrics.METRICS[metric]
    named = ranking.name
    if evaluator in ("accuracy", "trained"):
        named = named.replace("accuracy", words)
    return ranking._replace(name=named, judge=words)
