"""The section of a report that says what its words mean."""

from collections.abc import Iterator

from nas_jax.report.results import RunResults

GROUPS = {
    "top": "networks of candidates with the best scores",
    "small": "networks of the smallest candidates that have good scores",
    "random": "networks of candidates that were drawn at random, so they speak for all",
    "stratified": "networks of candidates spread evenly over the scores, so with more extremes",
    "pareto": "networks of the candidates that no other beats in score at no more cost",
    "tuned": "networks of *top* whose widths were tuned",
    "narrowed": "networks of *top* that were narrowed uniformly",
    "all_on": "the network with every path on, which is no architecture of the space",
}
PROTOCOLS = {
    "short": "networks trained alone on the training split, judged by validation images",
    "final": "networks trained alone at the end, judged by test images",
}


def write(results: RunResults) -> str:
    """List the terms that this report uses."""
    return "\n".join(f"- **{term}**: {meaning}." for term, meaning in _terms(results))


def _terms(results: RunResults) -> Iterator[tuple[str, str]]:
    name, judge = results.ranking_metric.name, results.ranking_metric.judge
    yield "score", f"what ranks the candidates, here {name}; a higher one is better"
    if name.startswith("one-shot"):
        yield name, "that of a candidate with the supernet's weights, on validation images"
    if any(results.alone.values()):
        yield f"stand-alone {judge}", "that of a network that was trained by itself, from scratch"
        yield "F", "the channels of a network's first stage"
    for protocol, meaning in PROTOCOLS.items():
        if results.alone[protocol]:
            yield protocol, meaning
    there = {group for networks in (results.short, results.final) for _, group in networks}
    for group, meaning in GROUPS.items():
        if group in there:
            yield group.replace("_", "-"), meaning
    if results.samples:
        yield (
            "Kendall's tau",
            "how far two orders agree: 1 if they are the same, 0 if one says nothing of the "
            "other, -1 if it is reversed; in brackets its 95 % interval",
        )
