"""One word for each concept: the glossary has it, and no public name has a retired one."""

import dataclasses
import fnmatch
import importlib
import inspect
import re
from pathlib import Path

import pytest

from tests.test_docs import MODULES, public

GLOSSARY = (Path(__file__).parents[1] / "docs" / "reference" / "glossary.md").read_text(
    encoding="utf-8"
)
ENTRIES, _, RETIRED_ROWS = GLOSSARY.partition("## Retired words")
ROWS = re.findall(r"^\| (.+?) \| (.+) \| `([\w.]+)` \|$", ENTRIES, re.M)
RETIRED = {
    word
    for row in re.findall(r"^\| (`.+?) \|", RETIRED_ROWS, re.M)
    for word in re.findall(r"`(\w+)`", row)
}
EXCEPTIONS = {  # what a name matches: why it has the word
    "*(scores)": "the numbers that rank candidates, whichever evaluator or table they come from",
    "report.score_bias*": "of these numbers, whichever they are",
    "*(labels)": "the classes of images",
    "*max_pool": "the op",
    "*avg_pool": "the op",
    "spaces.*Space.owner": "the option that a parameter belongs to; no process",
}


def words(name):
    """'InMemory.top_k' -> {'in', 'memory', 'top', 'k'}."""
    return set(re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower().replace(".", "_").split("_"))


def fields(value):
    """Names of the arguments of a function, or of those that make a record or a Flax module."""
    if inspect.isclass(value):
        names = (
            [f.name for f in dataclasses.fields(value)] if dataclasses.is_dataclass(value) else []
        )
        return [*names, *getattr(value, "_fields", ())]
    return list(inspect.signature(value).parameters)


def public_names(module):
    """(name as a message shows it, the part of it that has to be right)."""
    short = module.removeprefix("nas_jax").removeprefix(".")
    yield short, short.rpartition(".")[2]
    loaded = importlib.import_module(module)
    constants = [name for name in vars(loaded) if name.isupper() and not name.startswith("_")]
    yield from ((f"{short}.{name}", name) for name in constants)
    for which, value in public(loaded, module):
        name, last = f"{short}.{which}", which.rpartition(".")[2]
        yield name, last
        if last == value.__name__:  # else the default of a field
            yield from ((f"{name}({field})", field) for field in fields(value))


def retired_names(names):
    return sorted(
        name
        for name, part in names
        if words(part) & RETIRED and not any(fnmatch.fnmatch(name, e) for e in EXCEPTIONS)
    )


ALL = [pair for module in MODULES for pair in public_names(module)]
ALL_RETIRED = retired_names(ALL)


def test_no_public_name_has_a_retired_word():
    assert ALL_RETIRED == []


def test_retired_words_are_found():
    right = ["a.foundry", "a.b(scores)", "a.max_pool"]
    wrong = ["a.b(known)", "a.first_policy", "search.Scorer"]
    pairs = [(name, re.split(r"[.(]", name.rstrip(")"))[-1]) for name in (*right, *wrong)]
    assert retired_names(pairs) == wrong
    assert "candidates.evaluators" in dict(ALL)
    assert "spaces.make(name)" in dict(ALL)
    assert "costs.params_flops.Cost(params)" in dict(ALL)


@pytest.mark.parametrize("pattern", EXCEPTIONS)
def test_exceptions_are_needed(pattern):
    assert any(fnmatch.fnmatch(name, pattern) and words(part) & RETIRED for name, part in ALL)


def test_each_word_is_there_once_in_order():
    terms = [term.lower() for term, _, _ in ROWS]
    assert len(terms) == ENTRIES.count("\n| ") - 1  # but for the head of the table
    assert terms == sorted(set(terms))
    assert not {word for term in terms for word in term.split()} & (RETIRED - {"labels"})


@pytest.mark.parametrize("module", sorted({module for _, _, module in ROWS}))
def test_modules_of_the_glossary_exist(module):
    assert f"nas_jax.{module}" in MODULES
