"""Latencies of options on a target device, which this machine is not: from a file or a function.

`sweep.latency.table` names one of these:

    FILE.csv   columns choice, option, ms; a row without choice and option is of the part that all
               architectures have, 0 without such a row
    FILE.json  {"base_ms": ms, "options_ms": {choice: {option: ms}}}; a list of ms, one for each
               option, may stand for the inner object. The latency.json of a run is such a file
    FILE.py:NAME, MODULE:NAME or a plug-in: a function (space) -> such an object

An option is its name (`Space.option_names`) or its number, from 0. An architecture's latency is the
sum over the options that are on.
"""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from nas_jax import naming, plugins
from nas_jax.costs import latency
from nas_jax.spaces import Space
from nas_jax.spaces.image_size import ImageSize, height_and_width
from nas_jax.storage import csv_columns, schemas

logger = logging.getLogger(__name__)

FIELD = "config.sweep.latency.table"


def read(
    space: Space, name: str, *, filters: int | None = None, image_size: ImageSize | None = None
) -> dict[str | None, np.ndarray] | None:
    """Read the milliseconds of every option.

    Args:
      space: whose options they are.
      name: see the module; "": there are no latencies.
      filters, image_size: F and pixels of the networks that they must be of, which is compared with
        those of a latency.json; None: any.

    Returns: {name of a Choice: float64 [num_options]}, and [] by None for the part of all; None if
      there are no latencies.

    Raises: ValueError that names file or function, Choice and option, if one is missing, unknown,
      there twice, or no number of at least 0; or a latency.json is of other networks.
    """
    if not name:
        return None
    title = f"{FIELD}={name}"
    base, options, measured = _given(space, name, title)
    if measured:
        sides = image_size and list(height_and_width(image_size))
        _check_measured(measured, title, {"filters": filters, "image_size": sides})
    choices = {choice.name: choice for choice in jax.tree.leaves(space.choices)}
    for given in options:
        naming.check(f"{title}: choice", given, choices)
    table = {None: np.asarray(_milliseconds(base, f"{title}: base_ms"))}
    for choice in choices.values():
        row = options.get(choice.name, {})
        table[choice.name] = _of_choice(space, choice, row, f"{title}: {choice.name}")
    return table


def digest(table: Mapping[str | None, np.ndarray]) -> str:
    """Return a digest (hex) that is equal for equal tables."""
    plain = {name or "": values.tolist() for name, values in table.items()}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


def _given(space, name, title):
    """Return the base, {choice: {option: ms} or [ms]}, and what else a latency.json has."""
    if ":" in name or (name in plugins.entry_points("latencies") and not Path(name).exists()):
        found = plugins.make(FIELD, name, {}, "latencies", space)
        return _of_object(found, title)
    path = Path(name).expanduser()
    if not path.is_file():
        raise ValueError(f"{title}: there is no such file; write it as {__name__} says")
    content = path.read_bytes()
    if path.suffix.lower() == ".json":
        try:
            return _of_object(json.loads(content), title)
        except json.JSONDecodeError as error:
            raise ValueError(f"{title} is not JSON ({error})") from error
    return *_of_csv(csv_columns.parse(content, title)), {}


def _of_object(found, title):
    if not isinstance(found, Mapping) or not isinstance(found.get("options_ms"), Mapping):
        what = type(found).__name__
        raise ValueError(
            f"{title} gives a {what} without 'options_ms', an object of {{choice: {{option: ms}}}}"
        )
    measured = dict(found)
    base, options = measured.pop("base_ms", 0), measured.pop("options_ms")
    for key in measured:
        naming.check(f"{title}: key", key, schemas.LATENCY)
    if measured and (problem := schemas.problem(schemas.LATENCY, dict(found), title)):
        raise ValueError(problem)
    return base, options, measured


def _check_measured(measured, title, wanted):
    """Check of which networks the estimates of a latency.json are; older ones do not say it."""
    for field, value in wanted.items():
        there = measured.get(field)
        if value and there and there != value:
            raise ValueError(
                f"{title} has latencies of networks with {field}={there}, not {value}; measure "
                "them for these, with sweep.latency.num_archs"
            )
    if latency.is_poor(measured):
        logger.warning("%s holds poor estimates, %s", title, latency.quality(measured))


def _of_csv(columns):
    texts, base, options = [columns.texts(name) for name in ("choice", "option")], None, {}
    for line, number in columns.numbers("ms", schemas.AMOUNT).items():
        choice, option = (text[line].strip() for text in texts)
        if not choice and not option:
            if base is not None:
                raise ValueError(f"{columns.title}, line {line}: the part of all comes twice")
            base = number
            continue
        row = options.setdefault(choice, {})
        if option in row:
            raise ValueError(f"{columns.title}, line {line}: {choice} has {option!r} twice")
        row[option] = number
    return base or 0, options


def _of_choice(space, choice, row, where):
    names = space.option_names(choice)
    row = row.tolist() if isinstance(row, np.ndarray) else row
    if isinstance(row, Sequence) and not isinstance(row, str) and len(row) == len(names):
        values = enumerate(row)
        return np.asarray([_milliseconds(v, f"{where}: {names[j]}") for j, v in values], np.float64)
    if not isinstance(row, Mapping):
        raise ValueError(f"{where} must be {len(names)} numbers, or {{option: ms}}, not {row!r}")
    numbers = {str(number): number for number in range(len(names))}
    numbers |= {name: number for number, name in enumerate(names) if names.count(name) == 1}
    given: dict[int, Any] = {}
    for option, value in row.items():
        if str(option) not in numbers:
            naming.check(f"{where}: option", str(option), numbers)
        number = numbers[str(option)]
        if number in given:
            raise ValueError(f"{where} has the option {names[number]!r} twice")
        given[number] = _milliseconds(value, f"{where}: {names[number]}")
    for number, name in enumerate(names):
        if number not in given:
            raise ValueError(f"{where} lacks the option {name!r} (number {number})")
    return np.asarray([given[number] for number in range(len(names))], np.float64)


def _milliseconds(value, where):
    value = value.item() if isinstance(value, np.generic) else value
    if problem := schemas.problem(schemas.AMOUNT, value, where):
        raise ValueError(f"{problem} (milliseconds)")
    return float(value)
