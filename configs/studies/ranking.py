"""One-shot against stand-alone accuracy (paper, figure 5).

python launch.py --config=configs/studies/ranking.py[:small] --mode=study
"""

from nas_jax import config as config_lib


def get_config(variant=""):
    """See `configs/studies/_base.py`."""
    config_lib.check_variant(__file__, variant, ("small", ""))
    c = config_lib.load(f"studies/_base:{variant}")
    c.study.parts = ("ranking",)
    return c
