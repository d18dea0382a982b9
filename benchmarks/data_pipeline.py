"""Images per second that reach the training step: batches in memory, and their augmentation."""

import jax
import numpy as np

from benchmarks import harness
from nas_jax import config as config_lib
from nas_jax.data import augment, loading
from nas_jax.runtime import rng


def run(args) -> None:
    """Synthetic images of CIFAR-10's size and number, with the paper's batch."""
    data = loading.load("digits", train="train", valid="valid", test="test", data_dir=None)
    batches = data.batches("train", args.batch_size, seed=0, start=0, shard=(0, 1))
    settings = config_lib.default().supernet.train.augment.to_dict()
    augmented = jax.jit(
        lambda key, images: augment.augment(
            rng.each(key, np.arange(args.batch_size)),
            augment.standardise(images, data.mean, data.std),
            **settings,
        )
    )

    def read():
        for _ in range(20):
            next(batches)

    def read_and_augment():
        for _ in range(20):
            out = augmented(rng.key(0), next(batches)["image"])
        out.block_until_ready()

    functions = {"batches": read, "batches and augmentation": read_and_augment}
    work = 20 * args.batch_size
    harness.compare(args, "data pipeline, digits", functions, work=work, unit="images")
