"""Train with a loss and an optimiser of your own: python own_loss.py

The same by the command: nas-jax --config=digits --config.supernet.train.loss=own_loss.py:poly
"""

import jax
import jax.numpy as jnp
import optax

import nas_jax

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


def poly(logits, targets, *, epsilon: float = 1.0):
    """Compute Poly-1 (Leng et al., ICLR 2022) of logits and targets [..., K] for each image."""
    right = jnp.sum(targets * jax.nn.softmax(logits), -1)
    return optax.softmax_cross_entropy(logits, targets) + epsilon * (1 - right)


def lion(learning_rate):
    """Make Lion; the learning rate is an input of the compiled step."""
    return optax.lion(learning_rate)


if __name__ == "__main__":
    fields = dict(QUICK)
    for training in ("supernet.train", "retrain.short.train", "retrain.final.train"):
        fields[f"{training}.loss"] = f"{__file__}:poly"
        fields[f"{training}.optimizer"] = f"{__file__}:lion"
        fields[f"{training}.base_lr"] = 0.016  # at a batch of 1,024: 0.001 at 64
        fields[f"{training}.l2"] = 0.0
    found = nas_jax.search("digits", workdir="runs/own_loss", fields=fields)
    print(repr(found.best), found.paths["report"], sep="\n")
