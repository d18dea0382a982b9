"""SMASH: a hypernetwork generates the weights by which candidates are ranked.

python launch.py --config=configs/smash.py:digits    about eight minutes on two CPU cores
python launch.py --config=configs/smash.py           CIFAR-10, for an accelerator

It is trained as published (nas_jax/config/recipes.py). What is trained for a light form,
--config.supernet.variant_options='(("basis",4),)', is up to the other fields.
"""

from nas_jax import config as config_lib


def get_config(variant=""):
    """The search of the other config, with SMASH's supernet and its training."""
    config_lib.check_variant(__file__, variant, ("digits", ""))
    c = config_lib.load(variant or "cifar")
    config_lib.choose(c, "smash")
    return c
