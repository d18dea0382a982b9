"""What the one-shot model learns (paper, figures 6 and 7).

python launch.py --config=configs/studies/divergence.py[:small] --mode=study
"""

from configs import studies


def get_config(variant=""):
    """See `configs/studies/__init__.py`."""
    return studies.get_config(__file__, variant, "divergence")
