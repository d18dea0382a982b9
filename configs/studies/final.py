"""Top, small, random and all-on networks at several widths (paper, table 1).

python launch.py --config=configs/studies/final.py[:small] --mode=study
"""

from configs import studies


def get_config(variant=""):
    """See `configs/studies/__init__.py`."""
    return studies.get_config(__file__, variant, "final")
