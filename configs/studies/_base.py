"""What the studies share, so that they share one pool: the paper's settings, or a CPU's.

--config=configs/studies/NAME.py needs accelerators, --config=configs/studies/NAME.py:small two CPU
cores. The studies of one size use the same supernet, the same architectures and the same networks
trained alone; what one has trained, the next finds. Started twice, two processes share the work.
"""

from nas_jax import config as config_lib


def get_config(variant=""):
    """A study of no part yet."""
    config_lib.check_variant(__file__, variant, ("small", ""))
    c = config_lib.load("cifar")
    c.supernet.train.keep_checkpoints = 10  # every one, for the course of the divergence
    if variant == "small":
        _make_small(c)
    return c


def _make_small(c):
    c.study.pool = "runs/pool-small"

    c.data.image_size = 16  # a quarter of the pixels
    c.space.num_cells = 2
    c.space.cells_per_stage = 1
    c.space.stem_stride = 2  # cells work on 8x8 and 4x4 pixels

    _shorten(c.supernet.train)
    c.supernet.train.num_steps = 0
    c.supernet.train.num_epochs = 5.0
    c.supernet.train.checkpoint_every = 200

    c.sweep.num_candidates = 512
    c.sweep.num_images = 1000
    c.sweep.batch_size = 250

    c.retrain.selection.top_pool = 20
    for protocol in (c.retrain.short, c.retrain.final):
        _shorten(protocol.train)
        protocol.num_seeds = 2
        protocol.train.num_epochs = 1.5
    c.retrain.short.filters = (16,)
    c.retrain.short.groups.random = 32
    c.retrain.short.groups.stratified = 32
    c.retrain.final.filters = (8, 16)
    for group, number in (("top", 5), ("random", 5), ("small", 3), ("all_on", 1)):
        c.retrain.final.groups[group] = number


def _shorten(train):
    train.batch_size = 128
    train.ghost_batch_size = 32
    train.base_lr = 1.6  # 0.2 at a batch of 128
    train.augment.crop_padding = 0  # few epochs: there is nothing to overfit
    train.log_every = 50
    train.checkpoint_every = 0
