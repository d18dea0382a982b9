"""The paper's search on CIFAR-10, and a small variant of all of it for a CPU.

  python launch.py --config=configs/cifar.py --mode=supernet      as in the paper: for accelerators
  python launch.py --config=configs/cifar.py:small                the whole search, about an hour
                                                                  on two CPU cores

CIFAR-10 is read as tensorflow-datasets prepares it: set TFDS_DATA_DIR, or --config.data.data_dir.
"""

from nas_jax import config as config_lib

VARIANTS = ("small", "")


def get_config(variant=""):
    """The defaults are the paper's settings; see `nas_jax/config` for every field."""
    config_lib.check_variant(__file__, variant, VARIANTS)
    c = config_lib.default()
    if variant == "small":
        _make_small(c)
    return c


def _make_small(c):
    c.data.image_size = 16  # a quarter of the pixels

    c.space.num_cells = 3  # one per resolution instead of two
    c.space.cells_per_stage = 1

    c.supernet.filters = 8
    _shorten(c.supernet.train)
    c.supernet.train.num_steps = 0
    c.supernet.train.num_epochs = 5.0

    c.sweep.num_candidates = 512
    c.sweep.num_images = 512
    c.sweep.batch_size = 256

    c.retrain.selection.top_pool = 10
    for protocol in (c.retrain.short, c.retrain.final):
        _shorten(protocol.train)
        protocol.filters = (8,)
        protocol.num_seeds = 1
        protocol.train.num_epochs = 1.0
    c.retrain.short.groups.random = 14
    c.retrain.short.groups.stratified = 14
    c.retrain.final.groups.random = 2
    c.retrain.final.groups.top = 2
    c.retrain.final.groups.small = 1


def _shorten(train):
    train.batch_size = 128
    train.ghost_batch_size = 32
    train.base_lr = 0.8  # 0.1 at a batch of 128
    train.augment.crop_padding = 2  # of 16 pixels, as 4 are of 32
    train.log_every = 50
    train.checkpoint_every = 200
