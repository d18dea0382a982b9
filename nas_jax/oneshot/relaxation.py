"""Relaxed masks: real numbers that a gradient can move, in place of 0 and 1 (DARTS, GDAS).

Alphas are a tree like the space's Choices, with logits float32 [num_subsets] at each leaf: one for
every legal subset of a Choice's options. So a relaxed mask is a mean of legal masks, and the
largest alphas are a legal architecture, also where several options of a Choice may be on. Where one
is on, as on an edge of NAS-Bench-201, subsets are ops.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from nas_jax.runtime import rng
from nas_jax.spaces import Space
from nas_jax.spaces import choices as choices_lib

SAMPLES = ("softmax", "gumbel")
SCALE = 1e-3  # standard deviation of the first alphas, that of DARTS's published code


def first_alphas(key: jax.Array, choices: Any) -> Any:
    """Draw the first alphas, nearly equal ones; the key is consumed."""
    leaves, treedef = jax.tree.flatten(choices)
    keys = jax.random.split(key, len(leaves))
    shapes = [(choice.num_subsets,) for choice in leaves]
    return treedef.unflatten(
        [SCALE * jax.random.normal(k, s, jnp.float32) for k, s in zip(keys, shapes)]
    )


def expected(choices: Any, alphas: Any) -> Any:
    """Return the mean of all legal masks, weighted by softmax(alphas): masks [k] in [0, 1].

    That is the mixed op of DARTS (Liu et al., ICLR 2019, equation 2) where one option is on.
    """
    return jax.tree.map(_mean, choices, alphas)


def drawn(key: jax.Array, choices: Any, alphas: Any, temperature: jax.Array) -> Any:
    """Draw legal masks [k] by softmax(alphas), with a straight-through gradient; key is consumed.

    GDAS (Dong & Yang, CVPR 2019, equations 3 to 5): the largest of log probability plus Gumbel
    noise is on; the gradient is that of a softmax of the same at the temperature. float32.
    """
    leaves, treedef = jax.tree.flatten(choices)
    keys = jax.random.split(key, len(leaves))
    masks = []
    for key, choice, alpha in zip(keys, leaves, jax.tree.leaves(alphas)):
        logits = jax.nn.log_softmax(alpha) + jax.random.gumbel(key, alpha.shape, jnp.float32)
        soft = _mean(choice, logits / temperature)
        hard = jnp.asarray(choices_lib.subsets(choice))[jnp.argmax(logits)]
        masks.append(hard + (soft - jax.lax.stop_gradient(soft)))
    return treedef.unflatten(masks)


def largest(choices: Any, alphas: Any) -> Any:
    """Return the legal masks [k] of the largest alphas, the first of equals."""
    return jax.tree.map(
        lambda choice, alpha: jnp.asarray(choices_lib.subsets(choice))[jnp.argmax(alpha)],
        choices,
        alphas,
    )


def entropy(alphas: Any) -> jax.Array:
    """Return the mean over Choices of softmax(alphas)'s entropy, as a share of a uniform one's.

    float32 [] in [0, 1]: 1 before anything is learnt, 0 where one subset has all of the weight.
    Choices of a single subset do not count.
    """
    open_ = [alpha for alpha in jax.tree.leaves(alphas) if len(alpha) > 1]
    logs = [jax.nn.log_softmax(alpha) for alpha in open_]
    shares = [-jnp.sum(jnp.exp(log) * log) / jnp.log(len(log)) for log in logs]
    return jnp.mean(jnp.stack(shares)) if shares else jnp.float32(0)


def _mean(choice, logits):
    return jax.nn.softmax(logits) @ jnp.asarray(choices_lib.subsets(choice))


@dataclasses.dataclass(frozen=True)
class RelaxedSampler:
    """The mask sampler of relaxed masks; `sample` is one of `SAMPLES`.

    "softmax" gives all ghost batches the same masks, `expected`; "gumbel" draws for each (`drawn`).
    The sampler state has "alphas" and "temperature", float32 [].
    """

    space: Space
    sample: str

    def __call__(self, key, step, groups, state, hyper):
        """Return masks [G, k]; arguments as of the samplers in `path_samplers`."""
        choices, alphas = self.space.choices, state["alphas"]
        if self.sample == "softmax":
            masks = expected(choices, alphas)
            return jax.tree.map(lambda m: jnp.broadcast_to(m, (len(groups), len(m))), masks)
        keys = rng.each(jax.random.fold_in(key, step), groups)
        return jax.vmap(lambda key: drawn(key, choices, alphas, state["temperature"]))(keys)
