"""What the documents name exists, and what the package offers is documented."""

import fnmatch
import functools
import importlib
import inspect
import os
import pkgutil
import re
from pathlib import Path

import pytest

import nas_jax
from nas_jax import config as config_lib
from nas_jax.config import variants

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("docs/**/*.ipynb"))
)
OUTPUTS = ("report.md", "log.txt")  # a run writes it into its own folder
LINK = re.compile(r"\]\(([^)\s]+)[^)]*\)|(?:src|href)=\"([^\"]+)\"|^\[[^\]]+\]:\s+(\S+)", re.M)
NAMED = re.compile(r"[\w./{},*-]*[\w}*]\.(?:py|md|cfg|toml|txt|ipynb|sh|ya?ml)\b")
BRACES = re.compile(r"\{([^{}]*)\}")


def files():
    """All files of the repository, hidden folders left out."""
    found = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if not name.startswith((".", "__"))]
        found += [Path(folder, name).relative_to(ROOT).as_posix() for name in names]
    return found


def dead_links(text, folder):
    targets = ("".join(groups).partition("#")[0] for groups in LINK.findall(text))
    relative = (target for target in targets if target and "://" not in target)
    return [t for t in relative if not t.startswith("mailto:") and not (folder / t).exists()]


def expand(path):
    """`a/{b,c}.py` is a/b.py and a/c.py."""
    match = BRACES.search(path)
    if not match:
        return [path]
    middles = match[1].split(",")
    return [e for m in middles for e in expand(path[: match.start()] + m + path[match.end() :])]


def dead_paths(text, existing):
    """Named files that are no (end of a) path of the repository; X.py stands for any."""
    text = re.sub(r"\w+://\S+", "", text)
    named = {path.lstrip("./") for match in NAMED.findall(text) for path in expand(match)}
    return sorted(
        path
        for path in named
        if not Path(path).stem.isupper() or path.endswith(".md")
        if Path(path).name not in OUTPUTS
        if not any(fnmatch.fnmatch(f"/{file}", f"*/{path}") for file in existing)
    )


def test_dead_links_and_paths_are_found(tmp_path):
    (tmp_path / "there.md").touch()
    text = '[a](there.md#part) [b](gone.md) [c](https://x.org/y.md) <img src="gone.png">'
    assert dead_links(text, tmp_path) == ["gone.md", "gone.png"]
    text = "`a/{b,c}.py --config=configs/d.py:small`, c.py, configs/X.py, https://x.org/e.py, *.sh"
    assert dead_paths(text, ["lib/a/b.py", "configs/d.py"]) == ["*.sh", "a/c.py", "c.py"]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document):
    path = ROOT / document
    assert dead_links(path.read_text(encoding="utf-8"), path.parent) == []


def anchors(path):
    """What a link may name after the #: the headings of a document, as GitHub spells them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_name_headings_that_exist(document):
    path = ROOT / document
    targets = ("".join(groups) for groups in LINK.findall(path.read_text(encoding="utf-8")))
    parts = (target.partition("#") for target in targets if "://" not in target and "#" in target)
    wrong = [
        f"{file}#{anchor}"
        for file, _, anchor in parts
        if anchor not in anchors(path.parent / file if file else path)
    ]
    assert wrong == []


@pytest.mark.parametrize("document", [name for name in DOCUMENTS if name != "CHANGELOG.md"])
def test_fields_that_are_set_exist(document):
    """`--config.a.b=` in a document is a field of the config."""
    text = (ROOT / document).read_text(encoding="utf-8")
    named = set(re.findall(r"--config\.([\w.]+)=", text)) - {"a.b"}
    fields = {name for name, _ in variants.flatten(config_lib.default())}
    assert sorted(named - fields) == []


def test_the_citation_is_of_this_version():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {nas_jax.__version__}\n" in citation


@pytest.mark.parametrize("document", DOCUMENTS)
def test_named_files_exist(document):
    assert dead_paths((ROOT / document).read_text(encoding="utf-8"), files()) == []


# -- the package ----------------------------------------------------------------------------------

MODULES = ["nas_jax", *(m.name for m in pkgutil.walk_packages(nas_jax.__path__, "nas_jax."))]


def public(owner, module):
    """(name, function or class) that `owner`, a module or class of `module`, itself defines."""
    for name, value in vars(owner).items():
        if isinstance(value, functools.cached_property):  # a method descriptor from 3.13 on
            value = value.func
        value = inspect.unwrap(getattr(value, "__func__", getattr(value, "fget", value)))
        defined = inspect.isroutine(value) or inspect.isclass(value)
        if defined and value.__module__ == module and not name.startswith("_"):
            yield name, value
            if inspect.isclass(value):
                yield from ((f"{name}.{n}", v) for n, v in public(value, module))


@pytest.mark.parametrize("name", MODULES)
def test_everything_public_has_a_docstring(name):
    module = importlib.import_module(name)
    assert module.__doc__
    bare = [
        f"{name}.{which}"
        for which, value in public(module, name)
        if not value.__doc__ or value.__doc__.startswith(f"{which}(")  # a dataclass makes its own
        if not which.endswith(".setup")  # of a Flax module
        if value.__name__ != "<lambda>"  # the default of a field
    ]
    assert bare == []


# First words of a docstring that are no verb, beside plurals and what is no plain word.
NO_VERBS = re.compile(
    """
    A|All|An|Any|As|At|Both|By|Each|Every|First|For|From|How|If|In|Inside|It|Its|Most|No|Of|On|One|
    Raises|Same|See|That|The|Their|These|This|Those|To|What|When|Where|Whether|Which|Who|Whose|With|

    Accuracy|Arithmetic|Average|Batch|Best|Canonical|Children|Constant|Convolution|Cost|Decision|
    Depthwise|Difference|Distribution|Equal|Figure|Final|Independent|Initialiser|Learning|Logits|
    Markdown|Mean|Number|Random|Shape|Share|Small|Stage|Stand-alone|Sum|Truncation|Uniform
    """,
    re.VERBOSE,
)


def begins_with_a_verb(docstring):
    first = docstring.split()[0].rstrip(",:;.")
    plain = re.fullmatch(r"[A-Z][a-z]+(-[a-z]+)?", first)
    return bool(plain) and not NO_VERBS.fullmatch(first) and not re.search(r"[^s]s$", first)


def is_property(module, which):
    owner, _, name = which.rpartition(".")
    value = module if not owner else functools.reduce(getattr, owner.split("."), module)
    return isinstance(vars(value)[name], property | functools.cached_property)


def docstrings_without_verb(name):
    module = importlib.import_module(name)
    return [
        f"{name}.{which}".removeprefix("nas_jax.")
        for which, value in public(module, name)
        if value.__doc__ and not inspect.isclass(value) and not is_property(module, which)
        if which.rpartition(".")[2] == value.__name__ != "setup"  # else the default of a field
        if not begins_with_a_verb(value.__doc__)
    ]


def test_docstrings_without_verb_are_found():
    good = ["Return x.", "Pass it on.", "Re-run it.", "Train, then stop."]
    bad = ["The x.", "[N, k] of x.", "`x`, doubled.", "Rows of x.", "Raises: E.", "Whether x."]
    assert [text for text in [*good, *bad] if begins_with_a_verb(text)] == good


def test_docstrings_of_public_functions_begin_with_a_verb():
    """Those of classes and properties may be a noun."""
    found = {which for name in MODULES for which in docstrings_without_verb(name)}
    assert sorted(found) == []


@pytest.mark.parametrize("name", MODULES)
def test_a_key_is_the_first_argument_or_named(name):
    wrong = []
    for which, value in public(importlib.import_module(name), name):
        if inspect.isclass(value):
            continue
        parameters = [p for n, p in inspect.signature(value).parameters.items() if n != "self"]
        wrong += [
            f"{name}.{which}"
            for position, parameter in enumerate(parameters)
            if parameter.name in ("key", "keys") and position
            if parameter.kind is not parameter.KEYWORD_ONLY
        ]
    assert wrong == []
