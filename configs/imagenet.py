"""The paper's search on ImageNet: 8 cells, 224 pixels, 50,046 training images held out.

  python launch.py --config=configs/imagenet.py --mode=supernet

ImageNet is streamed as tensorflow-datasets prepares it (imagenet2012, array_record): set
TFDS_DATA_DIR, or --config.data.data_dir. Made for accelerators.
"""

from nas_jax import config as config_lib


def get_config():
    """Where the paper gives a number it is used; the rest is marked in `nas_jax/config`."""
    c = config_lib.default()

    c.data.name = "imagenet2012"
    c.data.image_size = 224
    c.data.train = "train[:-50046]"
    c.data.valid = "train[-50046:]"
    c.data.test = "validation"  # the test set has no public labels

    c.space.num_cells = 8  # four stages of two
    c.space.stem_stride = 4  # Paper: not given; here 56 pixels in the first cells.

    _enlarge(c.supernet.train)
    c.supernet.train.num_steps = 15_000
    c.supernet.remat = "norms"  # without it a step of 16 TPU v5e needs 20.0 GB of 16.9 on each

    c.sweep.num_images = 50_000
    c.sweep.batch_size = 200

    for protocol in (c.retrain.short, c.retrain.final):
        _enlarge(protocol.train)
        protocol.train.num_epochs = 200.0
    c.retrain.short.groups.random = 0
    c.retrain.short.groups.stratified = 0
    c.retrain.final.filters = (16, 24, 32)
    return c


def _enlarge(train):
    train.batch_size = 4096
    train.augment.crop_padding = 0  # random resized crops are taken while streaming
    train.label_smoothing = 0.1  # not in the paper
