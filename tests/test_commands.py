"""Every command in README and the documents is one that the package takes, up to where it runs."""

import re
import shlex
from pathlib import Path

import pytest
from absl import flags

from nas_jax import build, cli
from nas_jax.config import EXPORT_MODES

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.M | re.S)
NAMES = ("launch.py", "nas-jax")


def commands(page):
    """The arguments of each command of a page, from its bash blocks; shell variables are 0."""
    for block in BLOCK.findall(page.read_text(encoding="utf-8")):
        text = re.sub(r"\\\n\s*", " ", block)
        text = re.sub(r"(^|\s)#.*$", "", text, flags=re.M)
        text = re.sub(r"\$\{?\w+\}?", "0", text)
        text = re.sub(r"<[^<>]*>", "given", text)
        lexer = shlex.shlex(text, posix=True, punctuation_chars=";&|\n")
        lexer.whitespace, lexer.whitespace_split = " \t", True
        words = []
        for word in [*lexer, "\n"]:
            if set(word) <= set(";&|\n"):
                name = next((name for name in NAMES if name in words), None)
                if name and "..." not in words:
                    yield tuple(words[words.index(name) + 1 :])
                words = []
            else:
                words.append(word)


FOUND = [
    pytest.param(found, id=f"{page.relative_to(ROOT)}-{number}")
    for page in PAGES
    for number, found in enumerate(dict.fromkeys(commands(page)))
]


def readers_files(arguments):
    """Files that a reader writes; a test of the page that shows them runs them."""
    named = re.findall(r"[\w/.]+\.py\b", " ".join(arguments))
    return [name for name in named if not (ROOT / name).exists()]


def test_commands_are_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "```bash\nX=1 python launch.py --config=a \\\n    --mode=check  # why\n"
        "for s in 0 1; do nas-jax --config.seed=$s; done\n"
        "pip install x && nas-jax --mode=export\n```\n"
    )
    assert list(commands(page)) == [
        ("--config=a", "--mode=check"),
        ("--config.seed=0",),
        ("--mode=export",),
    ]
    assert len(FOUND) > 100


@pytest.mark.parametrize("arguments", FOUND)
def test_a_command_is_taken(arguments, monkeypatch):
    monkeypatch.chdir(ROOT)
    if files := readers_files(arguments):
        pytest.skip(f"of a file of the reader's own: {files}")
    if "--mode=report" in arguments:
        pytest.skip("a report reads the config of its workdir")
    try:
        values, given = cli._parse_arguments(["launch.py", *arguments])
    except (flags.Error, ValueError) as error:
        pytest.fail(str(error))
    if values.mode not in EXPORT_MODES:
        build.check_fields(given)
