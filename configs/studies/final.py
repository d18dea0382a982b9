"""Top, small, random and all-on networks at several widths (paper, table 1).

python launch.py --config=configs/studies/final.py[:small] --mode=study
"""

from nas_jax import config as config_lib


def get_config(variant=""):
    """See `configs/studies/_base.py`."""
    config_lib.check_variant(__file__, variant, ("small", ""))
    c = config_lib.load(f"studies/_base:{variant}")
    c.study.parts = ("final",)
    return c
