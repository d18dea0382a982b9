"""The section of a report on the training of the one-shot model."""

from nas_jax.report import figures
from nas_jax.report.results import RunResults


def write(results: RunResults) -> str:
    """Draw loss, accuracy and schedules over the steps; say where they ended."""
    rows, last = results.metrics, results.metrics[-1]
    series = {
        "training loss": [row["loss"] for row in rows],
        "training accuracy (%)": [100 * row["accuracy"] for row in rows],
        "learning rate": [row["learning_rate"] for row in rows],
    }
    also = ""
    shares = [row.get("drop_share", row.get("drop_rate")) for row in rows]  # the older name
    if None not in shares:
        series["path dropout (% of its final rate)"] = [100 * share for share in shares]
        also = " Path dropout makes both worse as more paths are off."
    figures.curves(results.out / "training.png", [row["step"] for row in rows], series)
    return (
        f"![Training curves](training.png)\n\nAt step {last['step']:,} the loss is "
        f"{last['loss']:.3f} and the accuracy {100 * last['accuracy']:.2f} %, both of the "
        "architectures that were trained, averaged since the line before."
        f"{also} The learning rate is `base_lr` x batch size / 1024, along its schedule."
    )
