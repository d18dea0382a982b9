"""One-shot against stand-alone accuracy (paper, figure 5).

python launch.py --config=configs/studies/ranking.py[:small] --mode=study
"""

from configs import studies


def get_config(variant=""):
    """See `configs/studies/__init__.py`."""
    return studies.get_config(__file__, variant, "ranking")
