"""Population based training: learning rate, L2 and path dropout's r change while supernets train.

  python launch.py --config=configs/pbt.py            eight supernets on CIFAR-10: for accelerators
  python launch.py --config=configs/pbt.py:digits     four on the embedded digits, about ten minutes
                                                      on two CPU cores

The best of them is searched at random. The schedule that was found is in report/report.md.
"""

from nas_jax import config as config_lib

VARIANTS = ("digits", "")


def get_config(variant=""):
    """The settings of the data set's own config, which the first hyper-parameters lie around."""
    config_lib.check_variant(__file__, variant, VARIANTS)
    c = config_lib.load(variant or "cifar")
    c.supernet.variant = "pbt"
    c.supernet.variant_options = (("population", 8),)
    c.supernet.strategy_every = 100
    if variant == "digits":
        c.supernet.variant_options = (("population", 4),)
        c.supernet.strategy_every = 20
    return c
