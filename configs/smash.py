"""SMASH: a hypernetwork generates the weights by which candidates are ranked.

python launch.py --config=configs/smash.py:digits    for CPUs
python launch.py --config=configs/smash.py           CIFAR-10, for an accelerator

It is trained as published: nas_jax/config/recipes.py. What is set beside it changes one field, and
leaves the others of the recipe. So --config.supernet.variant=none trains the supernet without a
hypernetwork, but still on one architecture for a batch and by Adam. So does the light form,
--config.supernet.variant_options='(("basis",4),)'. Start from another config to train otherwise:

python launch.py --config=configs/digits.py --config.supernet.variant=smash \
    --config.supernet.sampler=single_path --config.supernet.variant_options='(("basis",4),)'
"""

from nas_jax import config as config_lib


def get_config(variant=""):
    """The search of the other config, with SMASH's supernet and its training."""
    config_lib.check_variant(__file__, variant, ("digits", ""))
    c = config_lib.load(variant or "cifar")
    config_lib.choose(c, "smash")
    return c
