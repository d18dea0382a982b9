"""Run a search in a checkout: `python launch.py` is the command `nas-jax`, see nas_jax/cli.py."""

import sys

from nas_jax.cli import main

if __name__ == "__main__":
    sys.exit(main())
