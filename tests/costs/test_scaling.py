"""Scaling a found architecture to a budget, and its measured latency."""

import math

import pytest

from nas_jax import spaces
from nas_jax.costs import latency, params_flops, scaling

SPACE = spaces.make("cell", num_cells=2, num_blocks=1, cells_per_stage=1, ops=("sep3x3",))
TEXT = "0,1>sep3x3"


@pytest.mark.parametrize("budget", [{"max_params": 50_000}, {"max_flops": 3e6}])
def test_the_widest_within_the_budget(budget):
    """Costs are those of `cost.of`, and one step wider is above the budget."""
    [found] = scaling.fit(SPACE, TEXT, **budget, multiple=2, image_size=16)
    arch, [limit] = SPACE.from_str(TEXT), budget.values()
    exact = params_flops.of(SPACE, arch, filters=found.filters, image_size=16)
    assert (found.params, found.flops) == exact
    wider = params_flops.of(SPACE, arch, filters=found.filters + 2, image_size=16)
    field = next(iter(budget)).removeprefix("max_")
    assert getattr(exact, field) <= limit < getattr(wider, field)
    assert found.filters % 2 == 0


def test_there_is_no_widest_network():
    [found] = scaling.fit(SPACE, TEXT, max_params=1e12)
    exact = params_flops.of(SPACE, SPACE.from_str(TEXT), filters=found.filters)
    assert 0.99e12 < exact.params == found.params <= 1e12


def test_deeper_networks_are_narrower():
    found = scaling.fit(SPACE, TEXT, max_flops=3e6, depths=(1, 2, 3), image_size=16)
    assert [each.space.num_cells for each in found] == [2, 4, 6]
    assert [each.space.reduction for each in found] == [2, 2, 2]  # as many stages
    widths = [each.filters for each in found]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > widths[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give max_params or max_flops"),
        ({"max_params": math.inf}, "give max_params or max_flops"),
        ({"max_flops": 0}, "with F = 1 the network has .* more than the budget"),
        ({"max_params": 10}, "with F = 1 the network has .* more than the budget"),
        ({"max_params": 1e6, "depths": ()}, "depths is empty: name one or more, or None"),
        ({"max_params": 1e6, "multiple": 0}, "multiple=0 must be 1 or more"),
    ],
)
def test_what_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        scaling.fit(SPACE, TEXT, **arguments)


def test_a_chain_has_one_depth():
    with pytest.raises(ValueError, match="NasBenchMacroSpace has no other depth"):
        scaling.fit(spaces.make("nasbench_macro"), "00000000", max_params=1e6, depths=(2,))


def test_latency_of_a_larger_network_is_longer():
    """A thousandfold work, so that no noise hides it."""
    small, large = (
        latency.measure(SPACE, TEXT, filters=f, image_size=16, batch_size=b, repeats=5)
        for f, b in ((1, 1), (32, 64))
    )
    assert 0 < small.low <= small.median <= small.high
    assert large.median > small.median
    assert (large.batch_size, large.repeats) == (64, 5)
    assert math.isfinite(large.high)


@pytest.mark.parametrize("given", [{"repeats": 0}, {"warm_up": -1}, {"batch_size": 0}])
def test_a_latency_of_nothing_is_refused(given):
    ((name, value),) = given.items()
    with pytest.raises(ValueError, match=f"{name}={value} must be . or more"):
        latency.measure(SPACE, "00>", filters=4, image_size=8, **given)
