"""SMASH: a hypernetwork generates the weights by which candidates are ranked.

python launch.py --config=configs/smash.py:digits    about eight minutes on two CPU cores
python launch.py --config=configs/smash.py           CIFAR-10, for an accelerator
"""

from configs import cifar, digits
from nas_jax import config as config_lib


def get_config(variant=""):
    """The search of the other config; a random architecture for every ghost batch, as in SMASH."""
    config_lib.check_variant(__file__, variant, ("digits", ""))
    c = digits.get_config() if variant == "digits" else cifar.get_config()
    c.supernet.variant = "smash"
    c.supernet.sampler = "single_path"
    return c
