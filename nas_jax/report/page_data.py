"""What a page shows beside the text of the report: trials, networks, drawings, plots.

Everything is plain data of columns, so that a page of 20,000 trials stays small. An architecture is
a number, the place of its string among `archs`.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax

from nas_jax.costs import widths
from nas_jax.report import analysis, markdown
from nas_jax.report.results import Network, RunResults
from nas_jax.report.sections import best, pareto
from nas_jax.report.sections.networks import IMAGES, axis
from nas_jax.spaces import Space

OVERVIEW = "networks"  # the plot of a study's networks, above their table
Scores = Mapping[str, Mapping[str, float | None]]  # {heading: {architecture: value}}
DIGITS = 6  # of the values that the page sorts and plots, which keep it small


def alone(results: RunResults, arch: str) -> Iterator[tuple[str, int, float]]:
    """Yield what an architecture reaches alone: (what of, filters, per cent), as each protocol."""
    for protocol, images in IMAGES.items():
        for (filters, text), network in sorted(results.alone[protocol].items()):
            if text == arch:
                yield f"{images} {results.ranking_metric.judge}", filters, network.accuracy


def tiles(results: RunResults) -> list[tuple[str, str]]:
    """List the numbers that sum up a run, each with what it is of: (label, text)."""
    if not results.ranked:
        return []
    first, metric = results.best[0], results.ranking_metric
    trained = {
        f"{of}, alone, F = {filters}": f"{accuracy:.2f} %"
        for of, filters, accuracy in alone(results, first["arch"])
    }
    costs = [
        ("parameters", _count(first["params"])),
        ("multiply-adds", _count(first["flops"])),
    ]
    if first.get("latency_ms") is not None:
        costs.append(("latency", f"{first['latency_ms']:.3g} ms"))
    return [
        (metric.name, metric.written(first["value"])),
        *trained.items(),
        *costs,
        ("architectures scored", f"{len(results.ranked):,}"),
    ]


def _count(number):
    """Write a number in millions, a small one in full."""
    return f"{number:,.0f}" if number < 1e6 else f"{markdown.millions(number)} M"


def of(results: RunResults, scores: Scores | None = None) -> dict[str, Any]:
    """Make the data of a run's page, or a study's; {} without trials and networks.

    Args:
      results: of the run or the study.
      scores: of a study: other scores of its networks; None: it is a run.

    Returns: "archs", their strings; "drawings" of them, see `drawings`; "best", the number of the
      best architecture or None; "trials" and "networks", tables if they have rows, see `_table`;
      "plots", see `_plot`.
    """
    archs: dict[str, int] = {}
    networks, groups = _networks(results)
    if not results.trials and not networks:
        return {}
    first = results.best[0]["arch"] if results.ranked else None
    for name in [row["arch"] for row in results.trials] + [n.arch for _, _, n, _ in networks]:
        archs.setdefault(name, len(archs))
    tables = {}
    if results.trials:
        tables["trials"] = _trials(results, archs)
    if networks:
        tables["networks"] = _network_table(results, networks, archs, scores or {})
    plots = [*_fronts(results), *_rankings(results, groups)]
    plots += _sizes(results, groups) if scores is None else [_overview(groups, tables["networks"])]
    return {
        "archs": list(archs),
        "drawings": drawings(results.space, list(archs)),
        "best": archs.get(first),
        **tables,
        "plots": plots,
    }


# -- tables ---------------------------------------------------------------------------------------


def _table(order, **columns):
    """Make a table, of columns (title, kind, values [n]); one without any value is left out.

    Kinds: "arch", "text", "count"; "number" and "millions", whose columns have "texts" too, [n], as
    the page shows, filters and searches them. They are rounded here, as those of the report are:
    a browser rounds halves otherwise. `order` names the column that the table is sorted by at
    first, the highest first; "": as the rows come.
    """
    made = {
        name: {"title": title, "kind": kind} | _cells(kind, values)
        for name, (title, kind, values) in columns.items()
    }
    known = {n: each for n, each in made.items() if {*each["values"]} - {None}}
    return {"columns": known, "order": order}


def _cells(kind, values):
    if kind not in ("number", "millions"):
        return {"values": values}
    write = markdown.millions if kind == "millions" else _text
    known = [None if value is None or math.isnan(value) else value for value in values]
    return {
        "values": [None if value is None else float(f"{value:.{DIGITS}g}") for value in known],
        "texts": ["" if value is None else write(value) for value in known],
    }


def _text(value):
    """Write two decimals, as the report does, or three digits of what is smaller than 1."""
    return f"{value:#.3g}" if 0 < abs(value) < 1 else f"{value:z,.2f}"


def _trials(results, archs):
    rows, metric = results.trials, results.ranking_metric
    costs = {
        field: (label, "millions" if unit > 1 else "number", [row.get(field) for row in rows])
        for field, (label, unit) in pareto.COSTS.items()
    }
    values = [row["value"] and metric.factor * row["value"] for row in rows]
    states = [row.get("status") for row in rows]
    return _table(
        "value",
        line=("line", "count", list(range(1, len(rows) + 1))),
        arch=("architecture", "arch", [archs[row["arch"]] for row in rows]),
        value=(metric.label, "number", values),
        **costs,
        status=("status", "text", states if {*states} - {"ok"} else [None]),
    )


def _networks(results):
    """Return rows (protocol, filters, network, groups), and their numbers by protocol and group.

    The rows come by protocol, whose accuracies are of different images, each with the best first.
    """
    rows: dict[tuple, tuple] = {}
    groups: dict[tuple, list[int]] = {}
    published = {("published", "table"): results.samples.get(("published", "table"), [])}
    named = {(f, f"from {init} weights"): nets for (f, init), nets in results.named.items()}
    for protocol, by_group in (
        ("final", results.final),
        ("short", results.short),
        ("named", named),
        ("published", published),
    ):
        found: dict[tuple, tuple] = {}
        groups |= {(protocol, *group): [] for group in by_group}
        for (filters, name), networks in by_group.items():
            for network in networks:
                # a named one has a row for each first weights that it had
                key = protocol, filters, network.arch, name if protocol == "named" else ""
                found.setdefault(key, (network, []))[1].append(name)
        rows |= sorted(found.items(), key=lambda row: -row[1][0].accuracy)
    for number, ((protocol, filters, *_), (_, names)) in enumerate(rows.items()):
        for name in names:
            groups[protocol, filters, name].append(number)
    return [(*key[:2], network, names) for key, (network, names) in rows.items()], groups


def _network_table(results, rows, archs, scores):
    networks: list[Network] = [network for _, _, network, _ in rows]
    over_seeds = analysis.over_seeds({i: n.accuracies for i, n in enumerate(networks)})
    judge = results.ranking_metric.judge
    counts = [len(network.accuracies) for network in networks]
    words = [", ".join(names).replace("_", "-") for *_, names in rows]
    protocols = [f"{protocol} ({IMAGES.get(protocol, 'test')})" for protocol, *_ in rows]
    return _table(
        "",
        arch=("architecture", "arch", [archs[network.arch] for network in networks]),
        accuracy=(f"{judge} (%)", "number", [n.accuracy for n in networks]),
        sd=("sd over seeds", "number", list(over_seeds.sds.values())),
        protocol=("protocol", "text", protocols),
        filters=("F", "count", [None if p == "published" else f for p, f, *_ in rows]),
        groups=("groups", "text", words),
        seeds=("seeds", "count", counts if {*counts} - {1} else [None]),
        params=("parameters (M)", "millions", [network.params for network in networks]),
        flops=("multiply-adds (M)", "millions", [network.flops for network in networks]),
        one_shot=(
            results.ranking_metric.label,
            "number",
            [network.one_shot for network in networks],
        ),
        **{
            f"score{number}": (title, "number", [of_arch.get(n.arch) for n in networks])
            for number, (title, of_arch) in enumerate(scores.items())
        },
        seconds=("seconds", "number", [network.seconds for network in networks]),
    )


# -- plots ----------------------------------------------------------------------------------------


def _plot(figure, table, xs, y, series, *, label="", fronts=None):
    """Say what the page plots in place of a figure of the report.

    Args:
      figure: name of the PNG, or `OVERVIEW`.
      table: "trials" or "networks", of which the points are.
      xs: names of columns, one of which is the axis.
      y: name of a column.
      series: {name: numbers of the rows}; None are all rows.
      label: of the axis y; "": the title of its column.
      fronts: {name of a column in `xs`: rows on the Pareto front, the cheapest first}.
    """
    return {
        "figure": figure,
        "table": table,
        "xs": xs,
        "y": y,
        "series": series,
        "label": label,
        "fronts": fronts or {},
    }


def _fronts(results):
    rows = results.ranked
    if not rows:
        return
    last = {row["arch"]: i for i, row in enumerate(results.trials) if row["value"] is not None}
    values = [row["value"] for row in rows]
    fields = [f for f in pareto.COSTS if all(row.get(f) is not None for row in rows)]
    fronts = {
        field: [
            last[rows[i]["arch"]]
            for i in analysis.pareto_front(values, [row[field] for row in rows])
        ]
        for field in fields
    }
    yield _plot("pareto.png", "trials", fields, "value", {"candidates": None}, fronts=fronts)


def _rankings(results, groups):
    """Yield a plot for each figure of `sections.ranking`."""
    by_place: dict[str, dict] = {}
    for where, name in results.samples:
        filters = where if where == "published" else int(where.removeprefix("F = "))
        protocol = "published" if where == "published" else "short"
        label = f"{name} sample"
        by_place.setdefault(where, {})[label] = groups[protocol, filters, name]
    for where, series in by_place.items():
        figure = f"ranking_{where.replace(' = ', '')}.png"
        label = _axis(results, "final" if where == "published" else "short")
        yield _plot(figure, "networks", ["one_shot"], "accuracy", series, label=label)


def _sizes(results, groups):
    """Yield the plot of accuracy and size: of the final networks, else of the short trainings."""
    shown, series = "final" if results.final else "short", {}
    for (protocol, _, name), numbers in groups.items():
        if protocol == shown:
            series.setdefault(name.replace("_", "-"), []).extend(numbers)
    if series:
        costs, label = ["params", "flops"], _axis(results, shown)
        yield _plot("cost.png", "networks", costs, "accuracy", series, label=label)


def _overview(groups, table):
    """Make the plot of all networks of a study, which no figure of its report is in place of."""
    scores = [name for name in table["columns"] if name.startswith("score")]
    several = len({protocol for protocol, *_ in groups}) > 1
    series: dict[str, list[int]] = {}
    for (protocol, _, name), numbers in groups.items():
        label = name.replace("_", "-")
        series.setdefault(f"{protocol}, {label}" if several else label, []).extend(numbers)
    return _plot(OVERVIEW, "networks", ["params", "flops", "one_shot", *scores], "accuracy", series)


def _axis(results, protocol):
    return f"stand-alone {axis(protocol, results.ranking_metric.judge)}"


# -- drawings -------------------------------------------------------------------------------------


def drawings(space: Space, archs: Sequence[str]) -> dict[str, Any] | None:
    """Say what to draw of architectures (strings [n], perhaps with widths); None: nothing is known.

    Returns: {"names": of all options, "parts": [n]}. A space that says how a cell is drawn has also
      "inputs", their names; the parts are then its blocks, [inputs, options] each, by number. Of
      others they are the Choices, each with the options that are on; "choices" has their names.
    """
    if not hasattr(space, "choices"):
        return None
    texts, names = [widths.split(arch)[0] for arch in archs], {}

    def numbers(options):
        return [names.setdefault(option, len(names)) for option in options]

    if hasattr(space, "graph"):
        graphs = [space.graph(text) for text in texts]
        parts = [[[b["inputs"], numbers(b["ops"])] for b in g["blocks"]] for g in graphs]
        note = "" if getattr(space, "tied", True) else best.LAST_CELL
        return {"inputs": graphs[0]["inputs"], "names": list(names), "parts": parts, "note": note}
    choices = jax.tree.leaves(space.choices)
    tree, labels = jax.tree.structure(space.choices), [space.option_names(c) for c in choices]
    parts = [
        [
            numbers(label[j] for j in chosen)
            for label, chosen in zip(labels, tree.flatten_up_to(space.parse(text)))
        ]
        for text in texts
    ]
    return {"choices": [choice.name for choice in choices], "names": list(names), "parts": parts}
