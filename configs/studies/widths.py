"""Widths tuned by MorphNet after the search, against the same architectures narrowed uniformly.

python launch.py --config=configs/studies/widths.py:digits --mode=study    half an hour on two cores
python launch.py --config=configs/studies/widths.py:small --mode=study     CIFAR-10, on a CPU
python launch.py --config=configs/studies/widths.py --mode=study           CIFAR-10

The searches are those of random search in strategies.py, which a pool has already if that was run.
"""

from nas_jax import config as config_lib


def get_config(variant=""):
    """The two best of each of five searches."""
    config_lib.check_variant(__file__, variant, ("digits", "small", ""))
    c = config_lib.load(f"studies/strategies:{variant}")
    c.study.parts = ("widths",)
    c.study.variants = c.study.variants[:1]
    c.retrain.final.groups.tuned = 2
    return c
