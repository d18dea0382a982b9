"""One-shot against stand-alone accuracy (paper, figure 5).

python launch.py --config=configs/studies/ranking.py[:small] --mode=study
"""

from configs.studies import base


def get_config(variant=""):
    """See `configs/studies/base.py`."""
    c = base.get_config(__file__, variant, "ranking")
    return c
