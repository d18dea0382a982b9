"""A workdir is used by one process at a time."""

import subprocess
import sys

from nas_jax.storage import workdir

HOLD = """
import pathlib, sys, time
from nas_jax.storage import workdir

with workdir.claim(pathlib.Path(sys.argv[1]), wait=False) as mine:
    print(mine, flush=True)
    time.sleep(60)
"""


def test_a_claim_holds_until_its_process_dies(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "True\n"
        with workdir.claim(tmp_path, wait=False) as mine:
            assert not mine
        other.kill()
        other.wait()
        with workdir.claim(tmp_path, wait=True) as mine:
            assert mine
