"""The paper's experiments, each a part of a report: `--mode=study`, configs/studies.

A part is a module of this package with a TITLE and `write(study) -> Markdown`. It trains what the
study's store lacks, and draws its figures. `study.parts` names the parts of a study.
"""

import logging
from pathlib import Path

from ml_collections import ConfigDict

from nas_jax import naming
from nas_jax.report import document, markdown, page_data, webpage
from nas_jax.report.document import Document
from nas_jax.report.sections import settings
from nas_jax.run import Run
from nas_jax.storage import file_paths
from nas_jax.strategies import gaussian_process
from nas_jax.studies import (
    compare_strategies,
    compare_supernets,
    compare_widths,
    divergence,
    final,
    op_ablation,
    ranking,
    regret,
    signals,
)
from nas_jax.studies.study import Study, paper_points

PARTS = {
    "divergence": divergence,
    "final": final,
    "ranking": ranking,
    "regret": regret,
    "removal": op_ablation,
    "signals": signals,
    "strategies": compare_strategies,
    "supernets": compare_supernets,
    "widths": compare_widths,
}

logger = logging.getLogger(__name__)
_SPLIT = "supernet.split.choices"


def check(config: ConfigDict) -> None:
    """Check the fields that a study needs, before anything is written.

    Raises: ValueError that names the field and the way out.
    """
    parts = config.study.parts
    if not parts:
        raise ValueError(
            "config.study.parts is empty: --mode=study wants a config of configs/studies, or some "
            f"of {', '.join(PARTS)}"
        )
    evaluator = "table" if "regret" in parts else "accuracy"
    if config.sweep.score != evaluator:
        raise ValueError(
            f"config.sweep.score={config.sweep.score!r}, but this study ranks by {evaluator!r} "
            "(the part 'regret' by 'table', all others by 'accuracy')"
        )
    if config.metric != "accuracy":
        raise ValueError(f"config.metric={config.metric!r}, but studies compare by 'accuracy'")
    _check_signals(config)
    _check_latency(config.sweep.latency)
    if config.retrain.archs:
        raise ValueError("config.retrain.archs must be () in a study, whose parts choose")
    if config.retrain.final.pbt:
        raise ValueError("config.retrain.final.pbt must be () in a study: it trains networks once")
    _check_strategies(parts, config.retrain.final, config.study.num_seeds)
    if not config.space.get("tied", True):
        raise ValueError(
            "config.space.tied=False is for a variant: the architectures of a study are tied"
        )
    for part in parts:
        naming.check("config.study.parts", part, PARTS)
    file_paths.local(config.study.pool, "config.study.pool")
    paper_points(config.study)


def _check_signals(config):
    splits = [label for label, *fields in config.study.variants if _SPLIT in dict(fields)]
    if "divergence" in config.study.parts and (splits or config.supernet.split.choices):
        raise ValueError(
            "config.study.parts: 'divergence' follows one supernet, but config.supernet.split is "
            f"set{' by ' + repr(splits[0]) if splits else ''}; leave one of the two out"
        )
    if "signals" in config.study.parts and not config.table:
        raise ValueError("config.table is empty, but the part 'signals' judges by one: name it")
    if config.study.surrogate_archs and config.study.half == "all":
        raise ValueError(
            f"config.study.surrogate_archs={config.study.surrogate_archs} are of the half that "
            "does not judge, but study.half='all': take 'first' or 'second', or no surrogate (0)"
        )
    if config.study.surrogate_archs:
        gaussian_process.check_installed("config.study.surrogate_archs")
    for label, *fields in config.study.variants:
        for name, score in fields:
            if name == "sweep.score" and {*config.study.parts} != {"signals"}:
                raise ValueError(
                    f"config.study.variants, {label!r} sets config.sweep.score: that is for the "
                    "part 'signals' alone; others compare values of one unit"
                )
            if name == "sweep.score" and score in ("table", "trained"):
                raise ValueError(
                    f"config.study.variants, {label!r}: config.sweep.score={score!r} is no signal "
                    "but what signals stand for"
                )


def _check_latency(latency):
    """Check that nothing has latencies: ids of the store do not say which they were."""
    for name, none in {"num_archs": 0, "table": ""}.items():
        if latency[name]:
            raise ValueError(
                f"config.sweep.latency.{name}={latency[name]!r} must be {none!r} in a study, which "
                "has no latencies; retrain.widths.resource and MorphNet's option resource may be "
                "'flops' or 'params'"
            )


def _check_strategies(parts, final, num_seeds):
    if "strategies" in parts and (len(final.filters) != 1 or not final.groups.top):
        raise ValueError(
            f"config.retrain.final: a study of strategies trains networks of one width, not of "
            f"filters={final.filters}, and groups.top={final.groups.top} of every search: 1 or more"
        )
    if "widths" in parts and not final.groups.tuned:
        raise ValueError(
            "config.retrain.final.groups.tuned=0 must be 1 or more: so many architectures of every "
            "search are tuned in a study of widths"
        )
    if {"regret", "strategies", "widths"} & {*parts} and not num_seeds:
        raise ValueError("config.study.num_seeds=0 must be 1 or more to compare searches")


def _variants(config):
    rows = [
        (label, ", ".join(f"{name} = {value}" for name, value in fields) or "as below")
        for label, *fields in config.study.variants
    ]
    return markdown.table(("supernet", "differs in"), rows)


def _written(module, made, part):
    """Write a part; where supernets diverged there may be nothing to compare."""
    try:
        return module.write(made)
    except (ValueError, TypeError, LookupError) as error:
        if not made.store.diverged:
            raise
        raise ValueError(
            f"config.study.parts: {part!r} has nothing to compare, as supernets diverged: "
            f"{', '.join(names for names, _ in made.store.diverged.values())}; lower "
            "supernet.train.base_lr, or set supernet.train.clip_norm"
        ) from error


def _diverged(diverged):
    lines = "\n".join(f"- {names}: `{error}`" for names, error in diverged.values())
    return f"They have no values, and their seeds are left out.\n\n{lines}"


def study(run: Run) -> Path:
    """Train and evaluate what is missing, write report/report.md, and return its path.

    With the extra `report`, the same is a page, index.html, with a table of the networks.
    """
    config = run.config
    check(config)
    made = Study(run)
    sections = []
    for part in config.study.parts:
        module = PARTS[part]
        logger.info("study  %s", part)
        sections.append((module.TITLE, _written(module, made, part)))
    if made.store.diverged:
        sections.insert(0, ("Supernets that diverged", _diverged(made.store.diverged)))
    how = f"{_variants(config)}\n\n{settings.write(made.results)}"
    title = "Study: " + ", ".join(config.study.parts).replace("_", " ")
    whole = Document(title, "", [*sections, ("How it was run", how)])
    path = document.write(made.results.out, whole)
    webpage.write(made.results, whole, page_data.of(made.results, made.scores))
    logger.info("study  %s", path)
    return path
