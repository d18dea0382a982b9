"""NAS-Bench-201 as judge: how well the scores of a supernet rank its published accuracies.

  python launch.py --config=configs/nasbench201.py --mode=search          for accelerators
  python launch.py --config=configs/nasbench201.py:small --mode=search    half an hour, 2 cores

The table, nasbench201_cifar10.csv, is looked for in the current folder and in $NAS_BENCH_DIR;
nas_jax/spaces/tabular.py says how it is made of the published files. CIFAR-10 as for
configs/cifar.py.
"""

from ml_collections import ConfigDict

from nas_jax import config as config_lib

VARIANTS = ("small", "")


def get_config(variant=""):
    """Fair single-path training at the benchmark's own size; "small": one cell, 16x16 pixels."""
    config_lib.check_variant(__file__, variant, VARIANTS)
    c = config_lib.default()
    c.table = "nasbench201_cifar10.csv"
    c.space = ConfigDict({"name": "nasbench201", "num_cells": 5, "num_stages": 3})

    c.supernet.filters = 16
    c.supernet.sampler = "fair"
    train = c.supernet.train
    train.batch_size, train.ghost_batch_size = 640, 64  # each op in 2 of 10 ghost batches
    train.num_steps, train.num_epochs = 0, 300.0
    train.base_lr = 0.2

    c.sweep.strategy = "exhaustive"
    c.sweep.num_candidates = 15_625

    config_lib.retrain_nothing(c)  # the table's networks have been trained already
    if variant == "small":
        _make_small(c)
    return c


def _make_small(c):
    # One cell: the fewer cells share weights, the better they rank (docs/results/nasbench201.md).
    c.space.num_cells, c.space.num_stages = 1, 1
    c.data.image_size = 16  # a quarter of the pixels
    c.supernet.per_use_gradients = True
    train = c.supernet.train
    train.batch_size, train.ghost_batch_size = 160, 32  # 5 ghost batches, on 1 or 5 devices
    train.num_epochs = 24.0
    train.base_lr = 1.6
    train.augment.flip = False  # it is far from learning the images by heart
    train.augment.crop_padding = 0
    c.sweep.num_images = 2_000
    c.sweep.batch_size = 250
