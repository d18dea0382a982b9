"""Population based training (PBT): many networks are trained at once (Jaderberg et al., 2017).

The worst go on from copies of the best, with other hyper-parameters. As a training variant it
trains a population of supernets: `supernet.sampler` draws the architectures, as for one supernet,
and the sweep evaluates candidates with the best member. With `retrain.final.pbt` it trains a
population of one stand-alone network, which is the paper's own use.

Differs from the paper in:

- All members are evaluated, and selected, at the same steps; the paper's are asynchronous.
- A member whose training diverged always goes on from a member that did not.
- A hyper-parameter is the config's schedule times a factor; the paper's has no other schedule.
- The paper gives no probability of resampling and no level of the t-test: see `make`.

Letters: M members, W recent accuracies of a member.
"""

import functools
import math

import jax
import jax.numpy as jnp

from nas_jax import naming
from nas_jax.oneshot.training_variant import OPTIONS, Selection, TrainingVariant, check_range
from nas_jax.spaces import Space
from nas_jax.training.hyperparameters import TUNABLE

DEFAULT = ("base_lr", "l2", "r")
RECENT = 10  # accuracies that Welch's test compares (paper, section 4.1.1)
LEVEL = 0.05  # of that test, one-sided; not in the paper


def make(
    space: Space,
    *,
    population: int = 8,
    exploit: str = "truncation",
    share: float = 0.2,
    explore: str = "perturb",
    perturb: tuple = (1.2, 0.8),
    resample: float = 0.25,
    ready: int = 1,
    spread: float = 4.0,
    tunes: tuple = (),
) -> TrainingVariant:
    """Make a variant that selects among the members of a population (paper, section 4.1.1).

    "truncation" replaces the worst `share` of the members by draws from the best `share`. "t_test"
    compares each member with another, drawn at random, by their last 10 accuracies: it is replaced
    if the mean of the other is higher, by Welch's test at 5 % (one-sided).

    A member that was replaced then explores. "perturb" multiplies each of its factors by one of the
    two `perturb`, at random; "resample" draws each anew with probability `resample`.

    Args:
      space: is not used.
      population: number of members M, 1 or more.
      exploit: "truncation" or "t_test".
      share: of the members, for "truncation"; in [0, 0.5]. At least one member, if it is not 0.
      explore: "perturb" or "resample".
      perturb: two factors, one up and one down.
      resample: a probability; the paper says "some".
      ready: turns between two selections, 1 or more; the others only evaluate.
      spread: the first factors, and those drawn anew, are log-uniform in [1/spread, spread]; 1 or
        more.
      tunes: fields of the training's section, of `TUNABLE`, and "r", path dropout's; (): the
        learning rate, L2 and r.

    Raises: ValueError if an option is out of its range, or a field cannot be tuned.
    """
    check_range(1, None, population=population, spread=spread, ready=ready)
    check_range(0, 0.5, share=share)
    check_range(0, 1, resample=resample)
    _check_names(exploit, explore, tunes)
    _check_perturb(perturb)
    names = tuple(dict.fromkeys(TUNABLE[name] for name in tunes or DEFAULT))
    first = functools.partial(_log_uniform, names=names, spread=spread, size=population)
    explores = {
        "perturb": functools.partial(_perturbed, moves=tuple(perturb)),
        "resample": functools.partial(_resampled, first=first, probability=resample),
    }
    # Rounded first: 0.2 * 35 is a little above 7.
    count = min(math.ceil(round(share * population, 6)), population // 2)
    exploits = {"truncation": functools.partial(_truncation, count=count), "t_test": _t_test}
    select = functools.partial(_select, names, exploits[exploit], explores[explore])
    recent = RECENT if exploit == "t_test" else 1
    return TrainingVariant(
        selection=Selection(population, first, select, recent, ready, tuple(tunes))
    )


def _select(names, exploit, explore, key, factors, accuracies):
    """Return the parents int32 [M], and the next factors: as of `Selection.exploit`.

    The order of the names decides which factor gets which random number.
    """
    exploit_key, explore_key = jax.random.split(key)
    parents, is_replaced = exploit(exploit_key, jnp.asarray(accuracies, jnp.float32))
    inherited = {name: factors[name][parents] for name in names}
    explored = explore(explore_key, inherited)
    return parents, {
        name: jnp.where(is_replaced, explored[name], inherited[name]) for name in inherited
    }


def _check_names(exploit, explore, tunes):
    naming.check(f"{OPTIONS}: exploit", exploit, ("truncation", "t_test"))
    naming.check(f"{OPTIONS}: explore", explore, ("perturb", "resample"))
    for name in tunes:
        naming.check(f"{OPTIONS}: tunes", name, TUNABLE)


def _check_perturb(factors):
    numbers = all(isinstance(factor, int | float) for factor in factors)
    if len(factors) != 2 or not numbers or not factors[0] >= 1 >= factors[1] > 0:
        raise ValueError(
            f"{OPTIONS}: perturb={factors!r} must be two factors, one up and one down, such as "
            "(1.2, 0.8)"
        )


# -- explore --------------------------------------------------------------------------------------


def _log_uniform(key, *, names, spread, size):
    """Draw the factors of all members: the prior of the population, {name: float32 [M]}."""
    exponents = jax.random.uniform(key, (len(names), size), minval=-1, maxval=1)
    return dict(zip(names, jnp.float32(spread) ** exponents))


def _perturbed(key, factors, *, moves):
    """Multiply each factor by one of two moves, each as likely as the other."""
    up, down = moves
    ups = jax.random.bernoulli(key, shape=(len(factors), len(next(iter(factors.values())))))
    moves = jnp.where(ups, up, down)
    return {name: factor * move for (name, factor), move in zip(factors.items(), moves)}


def _resampled(key, factors, *, first, probability):
    """Draw each factor from the prior with a probability; else keep it."""
    new_key, which_key = jax.random.split(key)
    new = first(new_key)
    shape = (len(factors), len(next(iter(factors.values()))))
    which = jax.random.bernoulli(which_key, probability, shape)
    return {
        name: jnp.where(is_new, new[name], factor)
        for (name, factor), is_new in zip(factors.items(), which)
    }


# -- exploit: each returns parents int32 [M], and bool [M] that says which members are replaced ---


def _truncation(key, accuracies, *, count):
    """Replace the worst `count` members and all that failed by draws from the best `count`.

    None is a parent that failed, and none is replaced if all failed. Accuracies are [M].
    """
    is_sound = ~jnp.isnan(accuracies)
    numbers = jnp.arange(len(accuracies), dtype=jnp.int32)
    order = jnp.argsort(jnp.where(is_sound, -accuracies, jnp.inf))  # the best first; stable
    places = jnp.zeros_like(numbers).at[order].set(numbers)
    is_replaced = ((places >= len(accuracies) - count) | ~is_sound) & jnp.any(is_sound)
    best = jnp.clip(jnp.sum(is_sound), 1, max(count, 1))
    drawn = order[jax.random.randint(key, numbers.shape, 0, best)].astype(jnp.int32)
    return jnp.where(is_replaced, drawn, numbers), is_replaced


def _t_test(key, recent):
    """Replace a member by another, drawn at random, whose recent accuracies [M, W] are higher.

    A member whose newest accuracy is NaN failed: it is replaced by a draw from those that did not.
    """
    size, is_sound = len(recent), ~jnp.isnan(recent[:, -1])
    numbers = jnp.arange(size, dtype=jnp.int32)
    other_key, sound_key = jax.random.split(key)
    others = (numbers + jax.random.randint(other_key, (size,), 1, max(size, 2))) % size
    is_better = is_sound[others] & (welch(recent[others], recent) < LEVEL)
    order = jnp.argsort(~is_sound)  # those that did not fail first; stable
    drawn = order[jax.random.randint(sound_key, (size,), 0, jnp.clip(jnp.sum(is_sound), 1))]
    is_replaced = jnp.where(is_sound, is_better, jnp.any(is_sound))
    parents = jnp.where(is_sound, others, drawn).astype(jnp.int32)
    return jnp.where(is_replaced, parents, numbers), is_replaced


def welch(higher: jax.Array, lower: jax.Array) -> jax.Array:
    """Compute the p-value of Welch's t-test that one mean is not above the other, one-sided.

    Args:
      higher: float32 [..., W]; values that are not finite are missing.
      lower: the same, of what is thought to be lower.

    Returns: float32 [...] in [0, 1]; 1 where a side has fewer than two values.
    """
    (n_a, mean_a, error_a), (n_b, mean_b, error_b) = map(_moments, (higher, lower))
    square, difference = error_a + error_b, mean_a - mean_b
    varies = square > 0
    t = difference / jnp.sqrt(jnp.where(varies, square, 1))
    of_each = error_a**2 / jnp.maximum(n_a - 1, 1) + error_b**2 / jnp.maximum(n_b - 1, 1)
    degrees = jnp.where(varies, square**2 / jnp.where(varies, of_each, 1), 1)
    tail = jax.scipy.special.betainc(degrees / 2, 0.5, degrees / (degrees + t**2)) / 2
    tail = jnp.where(varies, tail, jnp.where(difference == 0, 0.5, 0.0))
    p_value = jnp.where(difference > 0, tail, 1 - tail)
    return jnp.where((n_a > 1) & (n_b > 1), p_value, 1.0)


def _moments(values):
    """Return number, mean, and squared standard error of the finite values, [...] each."""
    is_there = jnp.isfinite(values)
    count = jnp.sum(is_there, -1)
    mean = jnp.sum(jnp.where(is_there, values, 0), -1) / jnp.maximum(count, 1)
    squares = jnp.where(is_there, (values - mean[..., None]) ** 2, 0)
    variance = jnp.sum(squares, -1) / jnp.maximum(count - 1, 1)
    return count, mean, variance / jnp.maximum(count, 1)
