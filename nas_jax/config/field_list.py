"""The list of all fields for --help, with the comments of the files that define them."""

import ast
import inspect
import io
import textwrap
import tokenize
from collections.abc import Iterator
from typing import Any

from nas_jax.config import defaults, trained_networks
from nas_jax.config.variants import flatten

_TYPES = {bool: "true or false", int: "whole number", float: "number", str: "text", tuple: "tuple"}
_LIKE = {  # sections whose fields are explained by another
    "retrain.short.train.": "supernet.train.",
    "retrain.final.train.": "supernet.train.",
    "retrain.final.": "retrain.short.",
}


def text() -> str:
    """Return all fields by section, each with its default, its type and its comment."""
    fields, comments = dict(flatten(defaults.default())), explained()
    order = {name: number for number, name in enumerate(comments)}
    names = sorted(fields, key=lambda name: (name.rpartition(".")[0], order.get(name, 0)))
    lines, section = ["Fields of a config, set by --config.<field>=<value>:"], None
    alike: dict[str, list[str]] = {}
    for name in names:
        value = fields[name]
        prefix = next((prefix for prefix in _LIKE if name.startswith(prefix)), "")
        short = name.removeprefix(prefix)
        if prefix and _LIKE[prefix] + short in fields:
            differing = alike.setdefault(prefix, [])
            if value != fields[_LIKE[prefix] + short]:
                differing.append(f"{short}={value!r}")
            continue
        if name.rpartition(".")[0] != section:
            section = name.rpartition(".")[0]
            lines += ["", *_wrapped(section or "of no section", comments.get(section, ""), "")]
        lines += _wrapped(f"{name} = {value!r}  ({_type_of(name, value)})", comments.get(name, ""))
    for prefix, differing in alike.items():
        same = f"{prefix[:-1]}: the fields of {_LIKE[prefix][:-1]}, here {', '.join(differing)}"
        lines += ["", *textwrap.wrap(same, 100)]
    return "\n".join(lines)


def _type_of(name, value):
    rule = defaults.RULES.get(name)
    if rule and rule.names:
        some = "some of " if isinstance(value, tuple) else "one of "
        return some + ", ".join(rule.names)
    kind = _TYPES[type(value)]
    return f"{kind}, {rule.must_be}" if rule and rule.must_be else kind


def _wrapped(title, comment, indent="  "):
    inside = indent + "    "
    text = textwrap.wrap(comment, 100, initial_indent=inside, subsequent_indent=inside)
    return [*textwrap.wrap(indent + title, 100, subsequent_indent=inside), *text]


def explained() -> dict[str, str]:
    """Return {field or section: its comment, or ""}, read from the source and in its order."""
    comments: dict[str, str] = {}
    for module in (trained_networks, defaults):
        for name, comment in _comments(inspect.getsource(module)):
            comments[name] = comment or comments.get(name, "")
    return comments


def _comments(source: str) -> Iterator[tuple[str, str]]:
    """Yield (field, comment): the comment on its line, after the lines of comments above it.

    The fields of a helper function (`t` of `_train`, `p` of `_protocol`) get the name of the first
    section that it makes.
    """
    comments = {}  # by line: the text, and whether it is alone on the line
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            alone = not token.line[: token.start[1]].strip()
            comments[token.start[0]] = token.string.lstrip("# "), alone
    roots = {"c": "", "t": "supernet.train.", "p": "retrain.short."}
    nodes = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Assign))
    for node in sorted(nodes, key=lambda node: node.lineno):
        path = _path(node.targets[0])
        if path is None or path[0] not in roots or len(path) == 1:
            continue
        name = roots[path[0]] + ".".join(path[1:])
        above, line = [], node.lineno - 1
        while comments.get(line, ("", False))[1]:
            above.insert(0, comments[line][0])
            line -= 1
        beside = [comments[node.end_lineno][0]] if node.end_lineno in comments else []
        yield name, " ".join([*above, *beside])


def _path(node: Any) -> list[str] | None:
    """Return ["c", "data", "name"] of `c.data.name`; None for another expression."""
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute) and (before := _path(node.value)):
        return [*before, node.attr]
    return None
