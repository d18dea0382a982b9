"""Top, small, random and all-on networks at several widths (paper, table 1).

python launch.py --config=configs/studies/final.py[:small] --mode=study
"""

from configs.studies import base


def get_config(variant=""):
    """See `configs/studies/base.py`."""
    c = base.get_config(__file__, variant, "final")
    return c
