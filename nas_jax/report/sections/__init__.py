"""The sections of a report: each writes its figures and returns its Markdown.

Accuracies are printed in per cent, parameters and multiply-adds in millions.
"""

from collections.abc import Callable
from typing import NamedTuple

from nas_jax.report.results import RunResults
from nas_jax.report.sections import (
    best,
    distribution,
    final_networks,
    members,
    named,
    pareto,
    ranking,
    schedule,
    selected,
    settings,
    terms,
    training,
    trust,
    widths,
)


class Section(NamedTuple):
    """A section of a report.

    Attributes:
      title: its heading.
      write: (results) -> its Markdown; it draws the figures that this shows.
      needs: fields of the results, one of which must hold something.
      missing: what the run lacks where none of them does.
      mode: the mode of launch.py that makes that; "" where few runs have it, and a run without it
        has no such section.
    """

    title: str
    write: Callable[[RunResults], str]
    needs: tuple[str, ...]
    missing: str = ""
    mode: str = ""


_TRIALS = {"missing": "score in trials.jsonl", "mode": "sweep"}
_SAMPLES = {
    "needs": ("samples",),
    "missing": "selected result in retrain/short",
    "mode": "retrain",
}
SECTIONS = (
    Section("The space", settings.space, ("space",)),
    Section(
        "Training of the one-shot model",
        training.write,
        ("metrics",),
        missing="metrics.jsonl",
        mode="supernet",
    ),
    Section("Found schedule", schedule.write, ("lineage", "networks_lineages")),
    Section("The selected architecture", selected.write, ("selected",)),
    Section("Scores", distribution.write, ("scored",), **_TRIALS),
    Section("The best architectures", best.write, ("scored",), **_TRIALS),
    Section("Score against cost", pareto.write, ("ranked",), **_TRIALS),
    Section("The members of the ensemble", members.write, ("members",)),
    Section("How well scores rank", ranking.write, **_SAMPLES),
    Section("How far the score can be trusted", trust.write, **_SAMPLES),
    Section("Regret", ranking.regret, **_SAMPLES),
    Section(
        "Final networks",
        final_networks.write,
        ("final",),
        missing="result in retrain/final",
        mode="retrain",
    ),
    Section("Named architectures", named.write, ("named",)),
    Section("Tuned widths", widths.write, ("widths",)),
    Section(
        "Accuracy and size",
        final_networks.accuracy_and_size,
        ("final", "short"),
        missing="result in retrain",
        mode="retrain",
    ),
    Section("Terms", terms.write, ("scored",)),
    Section("How it was run", settings.write, ("config",), missing="config.json", mode="supernet"),
)
