"""Code in a fresh process that can import some distributions and what they need, and no others."""

import importlib.metadata
import json
import re
import subprocess
import sys

BLOCK = """
import json, sys
blocked = set(json.loads(sys.argv[1]))
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ImportError(f"{name} is of another distribution")
sys.meta_path.insert(0, Block())
"""


def needed(names):
    """The names of distributions, and of all that they need; lower case, with '-'."""
    todo, seen = list(names), set()
    while todo:
        name = re.sub(r"[-_.]+", "-", todo.pop()).lower()
        if name in seen:
            continue
        try:
            requires = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:  # for another system
            continue
        seen.add(name)
        todo += [re.match(r"[\w.-]+", each)[0] for each in requires if "extra ==" not in each]
    return seen


def blocked(names):
    """The top-level modules of all other installed distributions, nas_jax and tests first."""
    there = needed(names)
    return ["nas_jax", "tests", "launch"] + [
        module
        for module, owners in importlib.metadata.packages_distributions().items()
        if not any(re.sub(r"[-_.]+", "-", owner).lower() in there for owner in owners)
    ]


def run(code, names, *arguments, cwd):
    """Run code with these distributions; it finds `arguments` in sys.argv[2:]."""
    command = [sys.executable, "-I", "-c", BLOCK + code, json.dumps(blocked(names))]
    done = subprocess.run(
        [*command, *map(str, arguments)],
        cwd=cwd,
        env={"JAX_PLATFORMS": "cpu", "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
