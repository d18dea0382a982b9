"""The paper's experiments, each a part of a report: `--mode=study`, configs/studies.

A part is a module of this package with a TITLE and `write(study) -> Markdown`; it trains what the
study's pool lacks and draws its figures. `study.parts` names them.
"""

import difflib
import importlib
import logging
import pkgutil
from pathlib import Path

from ml_collections import ConfigDict

from nas_jax import data as data_lib
from nas_jax import sections, workdir
from nas_jax.spaces import Space
from nas_jax.studies.base import Study

logger = logging.getLogger(__name__)


def names() -> list[str]:
    """The parts that there are."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name != "base")


def check(parts: tuple[str, ...]) -> None:
    """Raises: ValueError, with the nearest name, if there is no such part, or none is named."""
    if not parts:
        raise ValueError(
            "config.study.parts is empty: --mode=study wants a config of configs/studies, or some "
            f"of {', '.join(names())}"
        )
    for part in parts:
        if part not in names():
            near = difflib.get_close_matches(part, names(), 1, 0)[0]
            raise ValueError(
                f"config.study.parts has {part!r}, which is none of {', '.join(names())}; "
                f"nearest: {near!r}"
            )


def run(config: ConfigDict, space: Space, data: data_lib.Data, directory: Path) -> Path:
    """Do what the study lacks, and write report/report.md in `directory`; returns its path."""
    check(config.study.parts)
    study = Study(config, space, data, directory)
    texts = ["# Study: " + ", ".join(config.study.parts).replace("_", " ")]
    for part in config.study.parts:
        module = importlib.import_module(f"nas_jax.studies.{part}")
        logger.info("study  %s", part)
        texts.append(f"## {module.TITLE}\n\n{module.write(study)}")
    texts.append(f"## How it was run\n\n{sections.how(study.found)}")
    path = study.found.out / "report.md"
    workdir.write_text(path, "\n\n".join(texts) + "\n")
    logger.info("study  %s", path)
    return path
