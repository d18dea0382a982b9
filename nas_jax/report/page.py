"""The report of a run: report.md, its figures and a page, from the files of the run."""

import logging
import re
from pathlib import Path

from ml_collections import ConfigDict

from nas_jax import spaces
from nas_jax.costs import params_flops
from nas_jax.report import analysis, document, figures, markdown, page_data, score_bias, webpage
from nas_jax.report.document import Document
from nas_jax.report.results import UNCHOSEN, RunResults, columns, sizes
from nas_jax.report.sections import SECTIONS
from nas_jax.run import FEW_STEPS, Run, count_steps
from nas_jax.spaces import Space
from nas_jax.storage import file_paths

logger = logging.getLogger(__name__)

SPEAKING = ("random", "table")  # samples that speak for the space


def report(run: Run) -> Path:
    """Write report/report.md, its figures and tables, and index.html; return report.md's path.

    The page, index.html, needs the extra `report`; without it the log says how to get it.

    What was run is read from its files, and from the table that the config names, which may have
    moved since; the rest of the config, and the data, are not used.
    """
    results = RunResults(run.workdir, run.space, run.config.table)
    lead = _headline(results)
    path = _write(results, lead)
    logger.info("report  %s", path)
    for sentence in lead:
        logger.info("report  %s", re.sub(r"\*\*|`", "", sentence))
    if any(results.alone.values()):
        logger.info("next    nas-jax --mode=export --workdir=%s", run.workdir)
    return path


def write(directory: str | Path, space: Space, table: str = "") -> Path:
    """Do as `report`; where files are missing, a section is a sentence that says what makes them.

    `table` is the path of the table that judges; "": what config.json names, if it does.
    """
    results = RunResults(file_paths.local(directory, "directory"), space, table)
    return _write(results, _headline(results))


def _write(results, lead):
    made = Document("Architecture search", " ".join(lead), [*_sections(results)])
    path = document.write(results.out, made)
    webpage.write(results, made, page_data.of(results))
    return path


def _sections(results):
    for section in SECTIONS:
        if any(getattr(results, field) for field in section.needs):
            yield section.title, section.write(results)
        elif section.mode == "retrain" and results.unchosen:
            where = ", ".join(f"retrain/{protocol}" for protocol in results.unchosen)
            yield section.title, f"{UNCHOSEN.format(where, '`--mode=retrain`')}."
        elif section.mode:
            absent = f"There is no {section.missing}: `--mode={section.mode}` makes it."
            yield section.title, absent


def growth(directory: str | Path, most: int = 8) -> list[Path]:
    """Draw how the cell space and its supernet grow (paper, section 3.1), with 16 filters.

    growth_ops.png: with 1 .. most times the same op in a block; growth_blocks.png: with the blocks.
    """
    directory = file_paths.local(directory, "directory")
    grown = {
        "ops": ("candidate ops per choice block", lambda n: {"ops": ("sep3x3",) * n}),
        "num_blocks": ("choice blocks per cell", lambda n: {"num_blocks": n}),
    }
    paths = []
    for name, (label, fields) in grown.items():
        made = [spaces.make("cell", **fields(n)) for n in range(1, most + 1)]
        counts = [space.count() for space in made]
        params = [params_flops.of(space, space.all_on(), filters=16).params / 1e6 for space in made]
        paths.append(directory / f"growth_{name.removeprefix('num_')}.png")
        figures.growth(paths[-1], range(1, most + 1), counts, params, label)
    return paths


# -- the headline ---------------------------------------------------------------------------------


def _headline(results):
    """Return sentences: the best architecture, how well the score ranks, whether it paid."""
    if not results.ranked:
        return ["No architecture has a score yet."]
    best, count, metric = results.best[0], len(results.best), results.ranking_metric
    others = "has one other" if count == 2 else f"have {count - 1:,} others"
    shared = f", as {others}: it was drawn by lot among these"
    alone = {
        f"{accuracy:.2f} % {of} with F = {filters}"
        for of, filters, accuracy in page_data.alone(results, best["arch"])
    }
    return [
        f"The best of {len(results.ranked):,} architectures is **`{best['arch']}`**: "
        f"{metric.name} {metric.written(best['value'])}{shared if count > 1 else ''}.",
        f"Trained alone it reaches {', '.join(sorted(alone))}."
        if alone
        else "It was not trained alone.",
        *(
            [f"What is called stand-alone accuracy below is the {metric.judge}."]
            if metric.judge != "accuracy"
            else []
        ),
        *_ties(count, len(results.ranked), metric),
        *_short_trainings(results),
        *(_rank_words(*key, group) for key, group in results.samples.items() if key[1] in SPEAKING),
        *(_top_words(f, results.final) for f, name in results.final if name == "top"),
        *(_all_on_words(f, nets) for (f, name), nets in results.final.items() if name == "all_on"),
    ]


def _ties(count, total, metric):
    """Say what to do where the best value is that of half of the candidates or more."""
    if count > 1 and 2 * count >= total:
        more = ", or evaluate on more images (`sweep.num_images`)" if metric.on_valid else ""
        yield f"**The values do not tell these candidates apart**: choose among them by cost{more}."


def _short_trainings(results):
    """Say which protocols trained for too few steps, as far as the files say how many."""
    sizes = results.data.get("sizes", {})
    for protocol in ("short", "final"):
        settings = results.config.get("retrain", {}).get(protocol, {})
        if not getattr(results, protocol) or "train" not in settings or not sizes:
            continue
        on_valid = protocol == "final" and not settings.get("pbt")
        images = sizes["train"] + on_valid * sizes["valid"]
        steps = count_steps(ConfigDict(settings["train"]), images)
        if steps < FEW_STEPS:
            yield (
                f"**Networks of the protocol {protocol} were trained for {steps} steps, too few to "
                f"judge them by**: raise `retrain.{protocol}.train.num_epochs`, or its `num_steps`."
            )


def _rank_words(place, name, networks):
    one_shot, truth = columns(networks, "one_shot", "accuracy")
    result = analysis.rank_correlations(one_shot, truth)
    where = f"On the {name} sample ({place}, n = {result.n})"
    if result.reason:
        return f"{where} no rank correlation is given: {result.reason}."
    tau = markdown.interval(result.kendall)
    text = f"{where} the score ranks stand-alone accuracy with Kendall's tau = {tau}"
    against = score_bias.against_size(one_shot, sizes(networks), truth)
    if against is None:
        return f"{text}."
    gain = against.gain
    verb = "beats" if gain.low > 0 else "loses to" if gain.high < 0 else "cannot be told from"
    return f"{text}, which {verb} counting {against.size} (difference {markdown.interval(gain)})."


def _all_on_words(filters, networks):
    reached = markdown.spread(analysis.summary(*columns(networks, "accuracy")))
    return f"All paths together, no architecture of the space, reach {reached} % (F = {filters})."


def _top_words(filters, final):
    if (filters, "random") not in final:
        return f"With F = {filters} no random architecture was trained to compare the top with."
    top, random = (
        analysis.summary(*columns(final[filters, name], "accuracy")) for name in ("top", "random")
    )
    return (
        f"Final networks of F = {filters}: the top reach {markdown.spread(top)} %, the random "
        f"{markdown.spread(random)} % of test images (n = {top.n} and {random.n}"
        f"{', too few to compare' if min(top.n, random.n) < 3 else ''})."
    )
