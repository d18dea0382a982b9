"""Rank candidates by an evaluator of your own: python own_evaluator.py

The same by the command: nas-jax --config=digits --config.sweep.score=own_evaluator.py:margin
"""

import jax
import jax.numpy as jnp

import nas_jax
from nas_jax.data import augment

# Few steps and candidates, no stand-alone networks. Leave this out for the whole search.
QUICK = {
    "space.num_cells": 1,
    "space.num_blocks": 1,
    "supernet.train.num_steps": 50,
    "sweep.num_candidates": 32,
    "sweep.candidates_per_batch": 16,
    "retrain.short.num_seeds": 0,
    "retrain.final.num_seeds": 0,
}


def margin(run, *, weights):
    """Rank by how far the right class is ahead of the best wrong one, on a validation batch.

    Without the keyword `weights` no supernet would be trained.
    """
    net = run.supernet()
    images, labels = run.data.fixed("valid", run.config.sweep.batch_size)
    images = augment.standardiser(run.data)(images)

    @jax.jit
    def values(params, images, archs):
        logits = net.logits_of_each({"params": params}, images, archs)  # [N, n, K]
        right = jnp.take_along_axis(logits, labels[None, :, None], -1)[..., 0]
        wrong = jnp.where(jax.nn.one_hot(labels, logits.shape[-1], dtype=bool), -jnp.inf, logits)
        return jnp.mean(right - jnp.max(wrong, -1), 1)

    return lambda archs: values(weights.params, images, archs)


if __name__ == "__main__":
    fields = QUICK | {"sweep.score": f"{__file__}:margin"}
    found = nas_jax.search("digits", workdir="runs/own_evaluator", fields=fields)
    print(repr(found.best), found.paths["report"], sep="\n")
