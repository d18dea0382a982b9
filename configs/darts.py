"""DARTS and GDAS: an architecture by gradient, a baseline for the search with path dropout.

python launch.py --config=configs/darts.py:digits    about five minutes on two CPU cores
python launch.py --config=configs/darts.py           CIFAR-10, for an accelerator
  .. --config.supernet.variant_options='(("sample","gumbel"),)'    GDAS in place of DARTS

The one candidate is the architecture that the alphas select; it is scored and trained alone. With
more (sweep.num_candidates) the others are random, scored by the same weights. Whatever its score,
it is the first of the group "top", and it is in neither "random" nor "stratified".
"""

from nas_jax import config as config_lib


def get_config(variant=""):
    """The training of the other config, whose result is one architecture."""
    config_lib.check_variant(__file__, variant, ("digits", ""))
    c = config_lib.load(variant or "cifar")
    c.supernet.variant = "darts"
    c.sweep.num_candidates = 1
    config_lib.retrain_nothing(c)
    c.retrain.final.groups.top = 1
    if variant == "digits":
        # The papers' 3e-4 is for tens of thousands of steps; here there are 500.
        c.supernet.variant_options = (("learning_rate", 0.03),)
    return c
