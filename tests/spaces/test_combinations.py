"""A rule across Choices: what is drawn, changed, listed, counted and searched keeps to it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from nas_jax import pipeline, spaces, strategies
from nas_jax.runtime import rng
from nas_jax.spaces import combinations
from nas_jax.spaces.chains import ChainSpace
from nas_jax.storage import json_files
from tests.configs import tiny

OPS = ("identity", "sep3x3", "sep5x5", "maxpool")


@dataclasses.dataclass(frozen=True)
class AtMostTwo(ChainSpace):
    """Four layers of four ops, of which at most two are the identity: 243 of 256."""

    stages: tuple = (4,)
    ops: tuple = OPS

    def allows(self, arch):
        """Count the layers whose first option is on."""
        return sum(mask[0] for mask in jax.tree.leaves(arch)) <= 2


@dataclasses.dataclass(frozen=True)
class Never(AtMostTwo):
    """A rule that nothing keeps to."""

    def allows(self, arch):
        """Say no."""
        return False


@dataclasses.dataclass(frozen=True)
class Untraceable(AtMostTwo):
    """A rule that JAX cannot trace."""

    def allows(self, arch):
        """Branch on a value."""
        return jax.tree.leaves(arch)[0][0] > 0 and True


SPACE = AtMostTwo()


def identities(archs):
    """Count them in masks [n, 4]."""
    return np.sum([np.asarray(mask)[:, 0] for mask in jax.tree.leaves(archs)], 0)


def test_it_is_counted_and_listed():
    """4^4 less the four with three identities in a row of 3 others each, and the one with four."""
    assert SPACE.count() == 256 - 4 * 3 - 1 == 243
    assert SPACE.size() == "243 architectures"
    rows = np.concatenate([*SPACE.enumerate_decisions(batch=50)])
    assert len(np.unique(rows, axis=0)) == 243
    assert identities(SPACE.from_decisions(rows)).max() == 2
    assert ChainSpace((4,), OPS).count() == 256


def test_a_count_of_too_many_is_a_bound(monkeypatch):
    monkeypatch.setattr(combinations, "MOST_COUNTED", 255)
    assert SPACE.count() == 256
    assert SPACE.size() == "at most 256 architectures"


def test_contains_heeds_it():
    legal, illegal = map(
        SPACE.from_str, ("identity|identity|sep3x3|maxpool", "|".join(OPS[:1] * 4))
    )
    assert SPACE.contains(legal)
    assert not SPACE.contains(illegal)
    assert not SPACE.contains(jax.tree.map(lambda *x: np.stack(x), legal, illegal))


def test_samples_are_uniform_over_the_rest():
    """2,430 draws of 243: each has 10 on average, and a chi-square of 242 +- 22."""
    drawn = jax.jit(functools.partial(SPACE.sample, shape=(2430,)))(rng.key(0))
    assert SPACE.contains(drawn)
    rows = np.concatenate([*SPACE.enumerate_decisions()])
    numbers = {tuple(row): i for i, row in enumerate(rows.tolist())}
    found = [numbers[tuple(row)] for row in np.asarray(SPACE.to_decisions(drawn)).tolist()]
    counts = np.bincount(found, minlength=243)
    assert 242 - 4 * 22 < np.sum((counts - 10) ** 2 / 10) < 242 + 4 * 22
    assert jax.tree.leaves(SPACE.sample(rng.key(0)))[0].shape == (4,)


def test_mutations_and_children_keep_to_it():
    keys = rng.each(rng.key(1), jnp.arange(200))
    a = SPACE.from_str("identity|identity|sep3x3|maxpool")
    b = SPACE.from_str("sep3x3|maxpool|identity|identity")
    for draw in (lambda key: SPACE.mutate(key, a), lambda key: SPACE.crossover(key, a, b)):
        drawn = jax.vmap(draw)(keys)
        assert SPACE.contains(drawn)
        assert len(np.unique(SPACE.to_decisions(drawn), axis=0)) > 5
    # each of 4 layers has 3 other ops; the two that would become identities are left out
    assert len(jax.tree.leaves(SPACE.neighbours(a))[0]) == 4 * 3 - 2


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("random_search", ()),
        ("evolution", (("population", 8), ("tournament", 4), ("crossover", 0.5))),
        ("exhaustive", ()),
        ("enas", ()),
        ("optuna", ()),
        ("surrogate", (("first", 8),)),
    ],
)
def test_strategies_ask_for_architectures_that_keep_to_it(name, options):
    """They are rewarded for identities, so that they would go beyond."""
    strategy = strategies.make(name, SPACE, options)
    state = strategy.init(rng.key(0))
    for number in range(6):
        key = rng.stream(rng.key(0), "ask", number)
        archs = strategies.ask_allowed(key, strategy, state, 8, SPACE.kept)
        assert SPACE.contains(archs)
        state = strategy.tell(state, archs, identities(archs).astype(float))


def test_a_sweep_keeps_to_it(tmp_path):
    """As many candidates as there are; the controller of ENAS knows nothing of the rule."""
    config = tiny.get_config()
    config.space = ConfigDict({"name": "tests.spaces.test_combinations:AtMostTwo"})
    config.sweep.score, config.sweep.num_candidates = "params", 256
    for strategy, count in (("exhaustive", 243), ("enas", 256)):
        config.sweep.strategy = strategy
        pipeline.run(config, "sweep", tmp_path / strategy)
        trials = json_files.read_trials(tmp_path / strategy / "trials.jsonl")
        assert len(trials) == count
        assert SPACE.contains(SPACE.from_strs([row["arch"] for row in trials]))


def test_a_rule_that_cannot_be_kept_or_traced_is_refused():
    with pytest.raises(ValueError, match=r"rule of Never .* keeps hardly any of the combinations"):
        spaces.make("tests.spaces.test_combinations:Never")
    with pytest.raises(ValueError, match=r"Untraceable.*TracerBoolConversionError in .*, line "):
        spaces.make("tests.spaces.test_combinations:Untraceable")
    assert (
        "64 of 64 do not"
        in dict(spaces.check(Never()).findings)[
            "architectures that are drawn keep to the space's rule"
        ]
    )


@pytest.mark.parametrize("name", ["contains", "count", "sample", "mutate", "neighbours"])
def test_what_follows_from_the_rule_cannot_be_overridden(name):
    with pytest.raises(TypeError, match=rf"Own\.{name} is final: .* is the method `allows`"):
        type("Own", (ChainSpace,), {name: lambda self: None})
