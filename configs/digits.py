"""A whole search on the embedded digits, for a first look.

python launch.py --config=configs/digits.py         five to six minutes on two CPU cores
python launch.py --config=configs/digits.py:tiny    about a minute: to try things out
"""

from nas_jax import config as config_lib

VARIANTS = ("tiny", "")


def get_config(variant=""):
    """The paper's method, scaled down until it fits a coffee break; "tiny": says no more."""
    config_lib.check_variant(__file__, variant, VARIANTS)
    c = config_lib.default()

    c.data.name = "digits"
    c.data.image_size = 16  # pixels of the canvas
    c.data.train, c.data.valid, c.data.test = "train", "valid", "test"

    c.space.num_cells = 2
    c.space.num_blocks = 2
    c.space.cells_per_stage = 1

    c.supernet.filters = 8
    _shorten(c.supernet.train)
    c.supernet.train.num_steps = 500

    c.sweep.num_candidates = 208
    c.sweep.num_images = 256
    c.sweep.batch_size = 128

    c.retrain.selection.top_pool = 1  # the best itself
    for protocol in (c.retrain.short, c.retrain.final):
        _shorten(protocol.train)
        protocol.filters = (8,)
        protocol.num_seeds = 1
        protocol.train.num_epochs = 3.0
    c.retrain.final.train.num_epochs = 2.0
    c.retrain.short.groups.random = 30
    c.retrain.short.groups.stratified = 20
    c.retrain.final.groups.random = 1
    c.retrain.final.groups.top = 1
    c.retrain.final.groups.small = 1
    c.retrain.final.groups.all_on = 1
    if variant == "tiny":
        _make_tiny(c)
    return c


def _make_tiny(c):
    c.space.num_cells = 1
    c.supernet.train.num_steps = 200
    c.sweep.num_candidates = 64
    short, final = c.retrain.short, c.retrain.final
    for protocol, steps in ((short, 100), (final, 200)):  # also of few images
        protocol.train.num_epochs, protocol.train.num_steps = 0.0, steps
    short.groups.random, short.groups.stratified = 10, 0  # as few as a rank correlation takes
    final.groups.random = final.groups.small = final.groups.all_on = 0


def _shorten(train):
    train.batch_size = 64
    train.ghost_batch_size = 16  # four draws of masks a step
    train.num_steps = 0
    train.base_lr = 6.4  # 0.4 at a batch of 64: few steps, and smaller rates leave more to chance
    train.augment.flip = False  # a mirrored digit is another sign
    train.augment.crop_padding = 0  # digits are placed at random already
    train.log_every = 50
    train.checkpoint_every = 200
