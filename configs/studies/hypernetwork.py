"""SMASH's generated weights, full and light, against shared ones: which rank better.

python launch.py --config=configs/studies/hypernetwork.py:digits --mode=study    30 min, two cores
python launch.py --config=configs/studies/hypernetwork.py:small --mode=study     CIFAR-10 on a CPU
python launch.py --config=configs/studies/hypernetwork.py --mode=study           CIFAR-10
"""

from nas_jax import config as config_lib


def get_config(variant=""):
    """As many training steps for each: shared weights, SMASH as published, and its light form."""
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
    single_path = ("supernet.sampler", "single_path")
    smash = ("supernet.variant", "smash")
    light = smash, ("supernet.variant_options", (("basis", 4),))
    c.study.variants = (
        ("path dropout",),
        ("single paths", single_path),
        ("SMASH", smash),  # with its recipe
        ("light SMASH", *light, single_path),
        ("light SMASH on path dropout", *light),
    )
    return c
