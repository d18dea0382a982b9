"""SMASH: a hypernetwork generates the weights by which candidates are ranked.

python launch.py --config=configs/smash.py:digits    about eight minutes on two CPU cores
python launch.py --config=configs/smash.py           CIFAR-10, for an accelerator
"""

from nas_jax import config as config_lib


def get_config(variant=""):
    """The search of the other config; a random architecture for every ghost batch, as in SMASH."""
    config_lib.check_variant(__file__, variant, ("digits", ""))
    c = config_lib.load(variant or "cifar")
    c.supernet.variant = "smash"
    c.supernet.sampler = "single_path"
    return c
