"""NAS-Bench-Macro as judge: how well the scores of a supernet rank its published accuracies.

  python launch.py --config=configs/nasbench_macro.py --mode=search          for accelerators
  python launch.py --config=configs/nasbench_macro.py:small --mode=search    half an hour, 2 cores

The table, nas-bench-macro_cifar10.json, is looked for in the current folder and in $NAS_BENCH_DIR;
it is published at github.com/xiusu/NAS-Bench-Macro. CIFAR-10 as for configs/cifar.py.
"""

from ml_collections import ConfigDict

from nas_jax import config as config_lib

VARIANTS = ("small", "")


def get_config(variant=""):
    """Fair single-path training at the benchmark's own size; "small": a quarter of the width."""
    config_lib.check_variant(__file__, variant, VARIANTS)
    c = config_lib.default()
    c.table = "nas-bench-macro_cifar10.json"
    c.space = ConfigDict({"name": "nasbench_macro", "stages": (2, 3, 3), "head": 40})

    c.supernet.filters = 32
    c.supernet.sampler = "fair"
    train = c.supernet.train
    train.batch_size, train.ghost_batch_size = 768, 64  # each op in 4 of 12 ghost batches
    train.num_steps, train.num_epochs = 0, 300.0
    train.base_lr = 0.2

    c.sweep.strategy = "exhaustive"
    c.sweep.num_candidates = 6_561

    config_lib.retrain_nothing(c)  # the table's networks have been trained already
    if variant == "small":
        _make_small(c)
    return c


def _make_small(c):
    c.data.image_size = 16  # a quarter of the pixels
    c.space.head = 20
    c.supernet.filters = 8
    train = c.supernet.train
    train.batch_size, train.ghost_batch_size = 192, 32  # 6 ghost batches, on 1, 2 or 3 devices
    train.num_epochs = 60.0
    train.base_lr = 0.5
    train.augment.crop_padding = 2  # of 16 pixels, as 4 are of 32
    c.sweep.num_images = 2_000
    c.sweep.batch_size = 250
