"""One-shot models at constant dropout rates and the ramp (paper, figure 4).

python launch.py --config=configs/studies/dropout_rate.py[:small] --mode=study
"""

from nas_jax import config as config_lib


def get_config(variant=""):
    """See `configs/studies/_base.py`."""
    config_lib.check_variant(__file__, variant, ("small", ""))
    c = config_lib.load(f"studies/_base:{variant}")
    c.study.parts = ("supernets",)
    c.study.variants = (
        ("ramp to r = 0.1",),
        *(_constant(r, short=variant != "small") for r in (1e-6, 0.01, 0.3)),
    )
    c.study.paper_columns = (
        "one_shot_accuracy",
        "one_shot_r1e-6",
        "one_shot_r0.01",
        "one_shot_r0.3",
    )
    return c


def _constant(r, short):
    fields = [("supernet.path_dropout.schedule", "constant"), ("supernet.path_dropout.r", r)]
    if short:  # the paper's: half of the search model's
        fields.append(("supernet.train.num_steps", 5_000))
    return (f"constant r = {r:g}", *fields)
