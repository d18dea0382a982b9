"""A listener that has a function for each kind of event, and how trackers name things."""

from collections.abc import Mapping
from pathlib import Path

from nas_jax.runtime.events import Event


class Listener:
    """Hears each event by the function that its kind names; those here do nothing.

    Attributes:
      in_every_process: of several processes of a run, whether each has one, for the networks that
        it trains; else the lead process alone.
    """

    in_every_process = False

    def __call__(self, event: Event) -> None:
        """Hear an event."""
        getattr(self, event.kind)(event)

    def begin(self, event: Event) -> None:
        """Hear that a run begins, or goes on."""

    def metrics(self, event: Event) -> None:
        """Hear a line of metrics.jsonl."""

    def candidates(self, event: Event) -> None:
        """Hear lines of trials.jsonl."""

    def network(self, event: Event) -> None:
        """Hear a result.json."""

    def end(self, event: Event) -> None:
        """Hear that a run ends."""


def tags(row: Mapping[str, float | None]) -> dict[str, float]:
    """Name the numbers of a line of metrics.jsonl: "train/loss", "valid/asked_accuracy".

    Those of an architecture that is asked for between steps are of validation images, and so is
    "valid_loss", which is "valid/loss". The step, and what is not finite, are left out.
    """
    return {
        _tag(name): value for name, value in row.items() if name != "step" and value is not None
    }


def _tag(name):
    if name.startswith("valid_"):
        return name.replace("_", "/", 1)
    return f"{'valid' if name.startswith('asked_') else 'train'}/{name}"


def judged(result: Mapping) -> dict[str, float]:
    """Name the numbers that judge a network, of its result.json: "valid/accuracy"."""
    return {
        name.replace("_", "/", 1): value
        for name, value in result.items()
        if name.startswith(("valid_", "test_")) and value is not None
    }


def folder_name(folder: Path, begun: Event) -> str:
    """Name a folder of a run, as a prefix "retrain/final/.../" of what is said of it.

    The workdir's own is "". Those of a study lie in its store.
    """
    for root in (begun.where, Path(begun.values["config"].get("study.pool", ""))):
        if folder.absolute().is_relative_to(root.absolute()):
            name = folder.absolute().relative_to(root.absolute()).as_posix()
            return "" if name == "." else f"{name}/"
    return f"{folder.name}/"
