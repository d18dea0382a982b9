"""The list of all fields, for --help and the reference, with the comments of their definitions."""

import ast
import inspect
import io
import textwrap
import tokenize
from collections.abc import Iterator
from typing import Any, NamedTuple

from nas_jax.config import defaults, trained_networks
from nas_jax.config.variants import flatten

_TYPES = {bool: "true or false", int: "whole number", float: "number", str: "text", tuple: "tuple"}
_LIKE = {  # sections whose fields are explained by another
    "retrain.short.train.": "supernet.train.",
    "retrain.final.train.": "supernet.train.",
    "retrain.final.": "retrain.short.",
}


class Field(NamedTuple):
    """A field of the config.

    Attributes:
      name: with its sections, such as "supernet.filters".
      default: its value in `default()`.
      must_be: its type and its rule, in words.
      comment: what the file that defines it says.
      like: the field whose comment this is; "" where that is its own.
    """

    name: str
    default: Any
    must_be: str
    comment: str
    like: str


def sections() -> dict[str, list[Field]]:
    """Return all fields by section ("" for those of none), in the order of their definitions."""
    fields, comments = dict(flatten(defaults.default())), explained()
    order = {name: number for number, name in enumerate(comments)}
    found: dict[str, list[Field]] = {}
    for name in sorted(fields, key=lambda name: (_section(name), order.get(name, 0))):
        prefix = next((prefix for prefix in _LIKE if name.startswith(prefix)), "")
        like = _LIKE.get(prefix, "") + name.removeprefix(prefix)
        like = like if prefix and like in fields else ""
        comment = comments.get(name) or comments.get(like, "")
        field = Field(name, fields[name], _type_of(name, fields[name]), comment, like)
        found.setdefault(_section(name), []).append(field)
    return found


def text() -> str:
    """Return all fields by section, each with its default, its type and its comment."""
    comments, defaults_of = explained(), dict(flatten(defaults.default()))
    lines = ["Fields of a config, set by --config.<field>=<value>:"]
    alike: dict[str, list[str]] = {}
    for section, fields in sections().items():
        own = [field for field in fields if not field.like]
        if own:
            lines += ["", *_wrapped(section or "of no section", comments.get(section, ""), "")]
        for field in own:
            lines += _wrapped(f"{field.name} = {field.default!r}  ({field.must_be})", field.comment)
        for field in (field for field in fields if field.like):
            prefix = next(prefix for prefix in _LIKE if field.name.startswith(prefix))
            differing = alike.setdefault(prefix, [])
            if field.default != defaults_of[field.like]:
                differing.append(f"{field.name.removeprefix(prefix)}={field.default!r}")
    for prefix, differing in alike.items():
        same = f"{prefix[:-1]}: the fields of {_LIKE[prefix][:-1]}, here {', '.join(differing)}"
        lines += ["", *textwrap.wrap(same, 100)]
    return "\n".join(lines)


def _section(name):
    return name.rpartition(".")[0]


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
