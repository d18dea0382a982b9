"""MorphNet: options that are not worth their multiply-adds vanish from the one-shot model, and the
widths of the best architectures are tuned afterwards.

python launch.py --config=configs/morphnet.py:digits    about eight minutes on two CPU cores
python launch.py --config=configs/morphnet.py           CIFAR-10, for an accelerator
"""

from nas_jax import config as config_lib


def get_config(variant=""):
    """The search of the other config; its best are trained with tuned and with narrowed widths."""
    config_lib.check_variant(__file__, variant, ("digits", ""))
    c = config_lib.load(variant or "cifar")
    c.supernet.variant = "morphnet"
    c.retrain.final.filters = c.retrain.final.filters[:1]
    c.retrain.final.groups.tuned = 2
    c.retrain.final.groups.narrowed = 2
    return c
