"""A rule across Choices: what is drawn, changed, listed, counted and searched keeps to it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from nas_jax import build, pipeline, spaces, strategies
from nas_jax.runtime import rng
from nas_jax.spaces import checks, choices, combinations, tabular
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
    assert combinations.in_words(SPACE) == "243 architectures"
    rows = np.concatenate([*SPACE.enumerate_decisions(batch=50)])
    assert len(np.unique(rows, axis=0)) == 243
    assert identities(SPACE.from_decisions(rows)).max() == 2
    assert ChainSpace((4,), OPS).count() == 256


def test_a_count_of_too_many_is_a_bound(monkeypatch):
    monkeypatch.setattr(combinations, "MOST_COUNTED", 255)
    assert SPACE.count() == 256
    assert combinations.in_words(SPACE) == "at most 256 architectures"


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
        ("surrogate", (("first", 8),)),
    ],
)
def test_strategies_that_draw_from_the_space_ask_for_nothing_beyond(name, options):
    """They are rewarded for identities, so that they would go beyond."""
    strategy = strategies.compiled(strategies.make(name, SPACE, options))
    state = strategy.init(rng.key(0))
    for number in range(6):
        archs = jax.device_get(strategy.ask(rng.stream(rng.key(0), "ask", number), state, 8))
        assert SPACE.contains(archs)
        state = strategy.tell(state, archs, identities(archs).astype(float))


def test_a_draw_is_compiled_once():
    """A strategy on the host calls them one by one."""
    arch = SPACE.sample(rng.key(0))
    for _ in range(2):
        arch = AtMostTwo().mutate(rng.key(1), arch)
    sizes = combinations._mutate._cache_size()
    AtMostTwo().mutate(rng.key(2), arch)
    assert combinations._mutate._cache_size() == sizes


class Heedless:
    """Asks for combinations of the Choices, whatever the rule says."""

    def __init__(self, space):
        self.space = space

    def init(self, key):
        """Remember nothing."""
        return jnp.zeros(0)

    def ask(self, key, state, n):
        """Draw from the Choices."""
        return choices.sample(key, self.space.choices, (n,))

    def tell(self, state, archs, scores):
        """Learn nothing."""
        return state


def test_a_sweep_keeps_to_it(tmp_path):
    """Also where who asks knows nothing of the rule, as ENAS's controller; listed are 243."""
    config = tiny.get_config()
    config.space = ConfigDict({"name": "tests.spaces.test_combinations:AtMostTwo"})
    config.sweep.score, config.sweep.num_candidates = "params", 256
    own = "tests.spaces.test_combinations:Heedless"
    for strategy, count in (("exhaustive", 243), ("enas", 256), ("optuna", 256), (own, 256)):
        config.sweep.strategy = strategy
        directory = tmp_path / strategy.rpartition(":")[2]
        pipeline.run(config, "sweep", directory)
        trials = json_files.read_trials(directory / "trials.jsonl")
        assert len(trials) == count
        assert SPACE.contains(SPACE.from_strs([row["arch"] for row in trials]))


def test_a_rule_that_cannot_be_kept_or_traced_is_refused():
    with pytest.raises(ValueError, match=r"rule of Never .* keeps hardly any of the combinations"):
        spaces.make("tests.spaces.test_combinations:Never")
    with pytest.raises(ValueError, match=r"Untraceable.*TracerBoolConversionError in .*, line "):
        spaces.make("tests.spaces.test_combinations:Untraceable")
    with pytest.raises(ValueError, match=r"rule of Never .* keeps hardly any"):
        build.build_run(tiny.get_config(), "unused", space=Never())
    with pytest.raises(ValueError, match=r"^[^\n]*Untraceable.*TracerBoolConversionError[^\n]*$"):
        spaces.make(Untraceable())
    subject = checks._Subject(Never(), filters=4, num_classes=2, channels=1, num_archs=2)
    assert checks._check_drawn(subject).startswith("64 of 64 do not")
    assert checks._check_drawn(dataclasses.replace(subject, space=SPACE)) is None


@pytest.mark.parametrize("name", ["contains", "count", "sample", "mutate", "neighbours"])
def test_what_follows_from_the_rule_cannot_be_overridden(name):
    with pytest.raises(TypeError, match=rf"Own\.{name} is final: .* is the method `allows`"):
        type("Own", (ChainSpace,), {name: lambda self: None})
    mixin = type("Mixin", (), {name: lambda self: None})
    with pytest.raises(TypeError, match="is final"):
        type("Own", (mixin, ChainSpace), {})


def test_a_table_with_an_architecture_beyond_the_rule_is_refused(tmp_path):
    row = "identity|identity|identity|maxpool"
    (tmp_path / "table.csv").write_text(f"arch,digits_test_accuracy\n{row},50\n")
    with pytest.raises(ValueError, match="not legal in this space"):
        tabular.load(str(tmp_path / "table.csv"), SPACE)
    assert tabular.load(str(tmp_path / "table.csv"), ChainSpace((4,), OPS)).rows
