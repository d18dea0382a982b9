"""A whole search in seconds, for tests."""

from nas_jax import config as config_lib


def get_config():
    """One cell of two blocks and three ops on a few small digits."""
    c = config_lib.default()
    c.data.name = "digits"
    c.data.image_size = 8
    c.data.digits.clutter = 0
    c.data.train, c.data.valid, c.data.test = "train[:512]", "valid[:128]", "test[:128]"
    c.space.num_cells = 2
    c.space.num_blocks = 2
    c.space.cells_per_stage = 1
    c.space.ops = ("identity", "sep3x3", "maxpool")
    c.supernet.filters = 4
    _shorten(c.supernet.train)
    c.supernet.train.num_steps = 40
    c.sweep.num_candidates = 40
    c.sweep.num_images = 128
    c.sweep.batch_size = 64
    c.sweep.candidates_per_batch = 8
    c.retrain.eval_batch_size = 50
    config_lib.retrain_nothing(c)
    for protocol in (c.retrain.short, c.retrain.final):
        _shorten(protocol.train)
        protocol.train.num_epochs = 0.0
        protocol.train.num_steps = 20
        protocol.filters = (4,)
        protocol.num_seeds = 1
    c.retrain.short.groups.random = 1
    c.retrain.short.groups.stratified = 1
    c.retrain.final.groups.top = 1
    return c


def _shorten(train):
    train.batch_size = 32
    train.ghost_batch_size = 4
    train.base_lr = 3.2
    train.augment.flip = False
    train.augment.crop_padding = 1
    train.log_every = 5
    train.checkpoint_every = 10
