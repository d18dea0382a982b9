"""Which finished networks of a workdir are exported: the best, an architecture, or a group."""

from collections.abc import Callable
from statistics import fmean

from nas_jax import naming
from nas_jax.costs import widths
from nas_jax.exports import about
from nas_jax.exports.workdirs import Finished, Workdir
from nas_jax.oneshot import class_metrics
from nas_jax.report import results
from nas_jax.spaces import choices
from nas_jax.standalone import selection
from nas_jax.standalone.retrain import SPLITS
from nas_jax.storage import json_files, schemas

BEST, GROUP = "best", "group:"
_MOST_SHOWN = 10  # networks that an error names


def choose(workdir: Workdir, network: str) -> tuple[list[Finished], str]:
    """Return the networks that `network` names, and in words why these.

    Args:
      workdir: of the run.
      network: "best"; an architecture's string or arch id; a network's `Finished.name`; or
        "group:NAME", every network of a group, of "final" if that protocol has it, else "short".

    Raises: ValueError if it is no text, if there is no such network, architecture or group, or if
      none is finished.
    """
    if not isinstance(network, str) or not network:
        raise ValueError(
            f"network={naming.shown(network)} must be {BEST!r}, an architecture, its id, or "
            f"{GROUP}NAME"
        )
    if not workdir.finished and workdir.config.study.parts:
        raise ValueError(f"workdir={workdir.directory}: {about.OF_STUDY}")
    if not workdir.finished:
        raise ValueError(
            f"workdir={workdir.directory} has no finished network (retrain/*/F*/*/seed*/"
            "result.json): run --mode=retrain first"
        )
    if network == BEST:
        return _best(workdir)
    if network.startswith(GROUP):
        return _group(workdir, network.removeprefix(GROUP))
    return _named(workdir, network)


def _best(workdir):
    """Return the final network, else short, of the best value that all of them have.

    All-on is no candidate: it is outside the space, and no sweep has evaluated it. Nor is one of
    `retrain.archs` beside networks of groups, as a sweep may not have its architecture: then the
    test images would choose among all; nor one that began with the supernet's weights, beside
    others.
    """
    space = workdir.space
    legal = [one for one in workdir.finished if space.contains(space.from_str(_text(one)))]
    of_groups = [one for one in legal if one.is_of_group]
    cold = [one for one in legal if not one.is_warm]
    candidates = of_groups or cold or legal or workdir.finished
    protocol = _protocol(candidates)
    networks = [one for one in candidates if one.protocol == protocol]
    by = ((words, list(map(value, networks))) for words, value in _values(workdir, protocol))
    words, values = next((words, values) for words, values in by if None not in values)
    size = [(v, one.result["filters"], -one.result["seed"]) for v, one in zip(values, networks)]
    chosen = networks[size.index(max(size))]
    equal = values.count(max(values)) > 1
    also = "; of equal ones that of the largest F, then of the first seed" if equal else ""
    return [chosen], f"the best of {len(networks)} {protocol} networks, by {words}{also}"


def _values(workdir, protocol) -> list[tuple[str, Callable[[Finished], float | None]]]:
    """List what networks can be compared by, in words and as a function: validation first.

    Final networks learn from validation images; their architectures have values on these from the
    protocol "short" and from the sweep. The test images are the last resort.
    """
    metric, split, short, swept = workdir.config.metric, SPLITS[protocol][1], {}, {}
    for one in workdir.finished:
        if one.protocol == "short":
            value = one.result[f"valid_{metric}"]
            short.setdefault(one.result["arch"], []).append(value)
    for row in json_files.read_trials(workdir.directory / "trials.jsonl"):
        if row["value"] is not None:
            swept[row["arch"]] = row["value"]
    words = class_metrics.METRICS[metric]
    swept_words = "the values of their architectures in the sweep"

    def of_short(one):
        own = one.result[f"valid_{metric}"] if one.protocol == "short" else None
        values = short.get(one.result["arch"])
        return own if own is not None else values and fmean(values)

    return [
        (f"{words} on validation images (protocol short)", of_short),
        (f"{swept_words} (not all have a short network to compare)", lambda x: swept.get(_text(x))),
        (f"{words} on {split} images", lambda x: x.result[f"{split}_{metric}"]),
    ]


def _text(one):
    return widths.split(one.result["arch"])[0]


def _protocol(networks):
    return "final" if any(one.protocol == "final" for one in networks) else "short"


def _named(workdir, network):
    """Return the network of an architecture: of final ones, else short; the largest F; seed 0.

    One of a group goes before one of `retrain.archs`, and of these one that began with random
    weights.
    """
    matching = _matching(workdir, network) or _matching(workdir, _canonical(workdir, network))
    if not matching:
        raise ValueError(
            f"network={network!r} was not trained alone in {workdir.directory}; there are "
            f"{_there(workdir)}"
        )
    protocol = _protocol(matching)
    of_protocol = [one for one in matching if one.protocol == protocol]
    chosen = max(of_protocol, key=_precedence)
    return [chosen], f"the {protocol} network of that architecture, largest F, first seed"


def _precedence(one):
    return one.is_of_group, not one.is_warm, one.result["filters"], -one.result["seed"]


def _matching(workdir, network):
    return [x for x in workdir.finished if network in (x.result["arch"], _id(x), x.name)]


def _canonical(workdir, network):
    """Return the string that the space itself writes; one with widths stays as it is."""
    space = workdir.space
    try:
        text, channels = widths.split(network)
        canonical = space.to_str(choices.from_indices(space.choices, space.parse(text)))
    except ValueError as error:
        raise ValueError(
            f"network={network!r} is neither {BEST!r}, nor {GROUP}NAME, nor the id of a network of "
            f"{workdir.directory} (which has {_there(workdir)}), nor an architecture of its space: "
            f"{error}"
        ) from error
    return canonical if channels is None else network


def _there(workdir):
    """List the ids of the networks, and their architectures."""
    texts = {_id(one): one.result["arch"] for one in workdir.finished}
    shown = [f"{name} ({text})" for name, text in texts.items()][:_MOST_SHOWN]
    left = len(texts) - len(shown)
    return ", ".join(shown) + (f" and {left} more" if left else "")


def _id(one):
    return one.path.parent.name


def _group(workdir, name):
    naming.check("group of the network", name, selection.GROUPS)
    for protocol in ("final", "short"):
        there = [x for x in workdir.finished if x.protocol == protocol and x.is_of_group]
        if not there:
            continue
        path = workdir.directory / "retrain" / protocol / "selection.json"
        if not path.exists():
            unchosen = results.UNCHOSEN.format(path.parent, "--mode=retrain")
            raise ValueError(f"network={GROUP}{name}: {unchosen}")
        chosen = json_files.read_json(path, schemas.SELECTION).get(name, ())
        if networks := [one for one in there if one.result["arch"] in chosen]:
            return networks, f"the {protocol} networks of the group {name!r}"
    raise ValueError(f"network={GROUP}{name}: {workdir.directory} has no network of that group")
