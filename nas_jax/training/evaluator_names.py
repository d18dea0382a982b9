"""The names of evaluators, of `sweep.score`, and which of them need a trained supernet."""

from ml_collections import ConfigDict

from nas_jax import naming, plugins
from nas_jax.proxies import PROXIES

EVALUATORS = {  # need a trained supernet?
    "accuracy": True,
    "loss": True,
    "train_loss": True,
    "kl": True,
    "params": False,
    "flops": False,
    "shortest_path": False,
    "table": False,
    "trained": False,
    **dict.fromkeys(PROXIES, False),
}
ENSEMBLE = "ensemble"  # of `sweep.score`: several of them


def evaluators_of(sweep: ConfigDict) -> tuple[str, ...]:
    """Name the evaluators of a section `sweep`: `score`, or the members of the ensemble."""
    if sweep.score != ENSEMBLE:
        return (sweep.score,)
    return tuple(name for name, _ in sweep.ensemble.members)


def needs_supernet(sweep: ConfigDict) -> bool:
    """Say whether an evaluator of a section `sweep` needs a trained supernet.

    One of a user or a plug-in does if its maker has a keyword `weights`.
    """
    return any(map(takes_weights, evaluators_of(sweep)))


def takes_weights(evaluator: str) -> bool:
    """Say whether the evaluator of that name is given the weights of a trained supernet."""
    if evaluator in EVALUATORS:
        return EVALUATORS[evaluator]
    make = plugins.maker("config.sweep.score", evaluator, EVALUATORS, "evaluators")
    return "weights" in naming.keywords(make)
