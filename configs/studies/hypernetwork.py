"""SMASH's generated weights, full and light, against shared ones: which rank better.

python launch.py --config=configs/studies/hypernetwork.py:digits --mode=study    for two cores
python launch.py --config=configs/studies/hypernetwork.py:small --mode=study     CIFAR-10 on a CPU
python launch.py --config=configs/studies/hypernetwork.py --mode=study           CIFAR-10
"""

from nas_jax import config as config_lib

_SINGLE_PATH = ("supernet.sampler", "single_path")
_SMASH = ("supernet.variant", "smash")
_LIGHT = _SMASH, ("supernet.variant_options", (("basis", 4),))
_SUPERNETS = (
    ("path dropout",),
    ("single paths", _SINGLE_PATH),
    ("SMASH", _SMASH),  # with its recipe
    ("light SMASH", *_LIGHT, _SINGLE_PATH),
    ("light SMASH on path dropout", *_LIGHT),
)


def get_config(variant=""):
    """As many steps for each, two seeds: shared weights, SMASH as published, and its light form."""
    config_lib.check_variant(__file__, variant, ("digits", "small", ""))
    if variant == "digits":
        c = config_lib.load("digits")
        c.study.pool = "runs/pool-digits"
        c.study.parts = ("supernets",)
        c.supernet.train.num_steps = 1500  # fewer, and single paths have hardly learnt
        c.sweep.num_images = 1024
        c.retrain.short.groups.random = 48
        c.retrain.short.groups.stratified = 32
    else:
        c = config_lib.load(f"studies/_base:{variant}")
        c.study.parts = ("supernets",)
    c.study.variants = tuple(
        (f"{label}{name}", *fields, *seed)
        for name, *seed in (("",), (", another seed", ("seed", 1)))
        for label, *fields in _SUPERNETS
    )
    return c
