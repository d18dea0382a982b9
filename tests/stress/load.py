"""A sweep of many candidates of a table, and a report on them: does either grow or slow down?

python -m tests.stress.load --candidates 100000
"""

import argparse
import itertools
import logging
import os
import tempfile
import time
from pathlib import Path

from ml_collections import ConfigDict

from nas_jax import config as config_lib
from nas_jax import report, spaces, sweep, workdir
from tests.configs import tiny_macro


class Watch(logging.Handler):
    """Notes when a round was done, and how much memory the process then had, in MB."""

    def __init__(self):
        super().__init__()
        self.rounds = []

    def emit(self, record):
        """Called with every line of the sweep's log."""
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.rounds.append((time.monotonic(), pages * os.sysconf("SC_PAGE_SIZE") / 1e6))


def write_table(path: Path) -> None:
    """A made-up table of all 6,561 networks of NAS-Bench-Macro's space."""
    texts = map("".join, itertools.product("012", repeat=8))
    lines = [f"{text},{50 + int(text, 3) % 997 / 50:.3f}\n" for text in texts]
    path.write_text("arch,digits_test_accuracy\n" + "".join(lines))


def main() -> None:
    """Search, report, and say what was measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--candidates", type=int, default=100_000)
    parser.add_argument("--strategy", default="random_search")
    args = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="load_"))
    write_table(directory / "table.csv")
    config = tiny_macro.get_config()
    name = "nasbench_macro"
    config.space = ConfigDict({"name": name, **spaces.defaults(name)})
    config.table, config.sweep.score = str(directory / "table.csv"), "table"
    config.sweep.strategy, config.sweep.num_candidates = args.strategy, args.candidates
    config.sweep.candidates_per_batch = 100
    space, data = config_lib.build(config)
    workdir.open_workdir(directory, config.to_dict(), data.fingerprint)
    watch, logger = Watch(), logging.getLogger(sweep.__name__)
    logger.setLevel(logging.INFO)
    logger.addHandler(watch)
    sweep.run(config, space, data, directory)
    for name, part in (("first", watch.rounds[10:20]), ("last", watch.rounds[-10:])):
        rate = 100 * (len(part) - 1) / (part[-1][0] - part[0][0])
        print(f"{name} 1,000 candidates: {rate:.0f} a second, {part[-1][1]:.0f} MB")
    began = time.monotonic()
    report.write(directory, space)
    print(f"report on {args.candidates} trials: {time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    main()
