"""A benchmark's search in seconds, for tests; the table is given on the command line."""

from ml_collections import ConfigDict

from nas_jax import config as config_lib
from tests.configs import tiny


def get_config():
    """Three layers, fair sampling, 27 architectures, no stand-alone networks."""
    c = tiny.get_config()
    c.space = ConfigDict({"name": "nasbench_macro", "stages": (1, 2), "head": 2})
    c.supernet.sampler = "fair"
    c.supernet.train.checkpoint_every = 20
    c.sweep.strategy = "exhaustive"
    c.sweep.calibration_images = 128
    config_lib.retrain_nothing(c)
    return c
