"""One-shot neural architecture search: train a supernet, evaluate candidates, retrain the best.

  python launch.py --config=configs/digits.py                     the whole search, embedded data
  python launch.py --config=configs/cifar.py --mode=supernet      the paper's supernet on CIFAR-10
  python launch.py --config=configs/cifar.py:small                a search for a CPU
  python launch.py --config=configs/nasbench_macro.py:small       judged by published accuracies
  python launch.py --config=configs/digits.py --config.seed=1 --workdir=runs/seed1

Modes (each resumes where it was stopped; none repeats what is there):
  supernet  train the one-shot model with path dropout    -> checkpoints/, metrics.jsonl
  sweep     evaluate candidates on validation images      -> trials.jsonl
  retrain   train chosen architectures from scratch       -> retrain/
  report    tables and figures of all of it               -> report/report.md
  search    the four above in order (the default)
  study     an experiment of the paper: a config of configs/studies (its default)

Any field of the config can be set: --config.supernet.train.base_lr=0.2
Exit codes: 0 done, 1 the training diverged, 2 wrong input or too little memory or disk, 130 Ctrl-C,
143 SIGTERM (with a checkpoint). Whatever ended it, the same command goes on from there.
"""

import logging
import os
import re
import sys
import traceback
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from nas_jax import config as config_lib
from nas_jax.config import validation
from nas_jax.config.variants import flatten
from nas_jax.runtime import environment
from nas_jax.runtime.preemption import Interrupted

_FIELDS: list[str] = []  # arguments; the config's flag reads those that set fields
_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "A file of configs/, FILE[:variant].", sys_argv=_FIELDS
)
_MODE = flags.DEFINE_enum("mode", None, config_lib.MODES, "What to do; default: see above.")
_DISTRIBUTED = flags.DEFINE_bool("distributed", False, "One of several processes of a run.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; default: runs/<config name>.")


class _Parser(flags.ArgumentParser):
    """The parser of all fields of one type; its error says in words what they must be."""

    def __init__(self, parse, words):
        self._parse, self._words = parse, words

    def parse(self, argument):
        try:
            return self._parse(argument)
        except (TypeError, ValueError) as error:
            raise ValueError(f"must be {self._words}") from error


def _whole(argument):
    """Parse an int; 1e6 and 40.0 are allowed."""
    try:
        return flags.IntegerParser().parse(argument)
    except ValueError:
        if not float(argument).is_integer():
            raise
        return int(float(argument))


for _type, _parse, _words in (
    (int, _whole, "a whole number"),
    (float, flags.FloatParser().parse, "a number"),
    (bool, flags.BooleanParser().parse, "true or false"),
):
    config_flags.register_flag_parser_for_type(_type, _Parser(_parse, _words))


def _parse_arguments(argv):
    """Read the config's file, check which fields are set, then set them."""
    _FIELDS.clear()
    others = flags.FLAGS(argv, known_only=True)[1:]
    if _CONFIG.value is None:
        raise ValueError("--config is missing, e.g. --config=configs/digits.py")
    fields = dict(flatten(_CONFIG.value))
    for argument in others:
        given = re.fullmatch(r"--?(?:no)?config\.([^=]+)=?(.*)", argument, re.DOTALL)
        if given and not given[2].startswith("{"):  # a whole section
            validation.field_name(given[1], fields)
    _FIELDS.extend(argv)
    stray = flags.FLAGS(argv)[1:]
    if stray:
        raise ValueError(f"{stray[0]!r} is no flag; fields are set by --config.{stray[0]}")


def _default_workdir():
    path, _, variant = config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")
    return Path("runs", "-".join(filter(None, (Path(path).stem, variant))))


def _run_joined():
    """Run as one of several processes.

    JAX would make this process wait for the others at its end, and the others for this one. So
    after a failure it exits at once, which ends the others.
    """
    try:
        from nas_jax.runtime import distributed

        distributed.initialize()
    except ValueError as error:
        return _fail(error, 2)
    code = 1
    try:
        code = _run()
    except Exception:
        traceback.print_exc()
    if code:
        sys.stderr.flush()
        os._exit(code)
    return code


def _run():
    try:
        from nas_jax import pipeline  # imports JAX, and --help must be quick

        pipeline.run(_CONFIG.value, _MODE.value, _WORKDIR.value or _default_workdir())
    except KeyboardInterrupt as stop:
        return 143 if isinstance(stop, Interrupted) else 130
    except FloatingPointError as error:
        return _fail(error, 1)
    except ValueError as error:
        return _fail(error, 2)
    return 0


def _last_words(error):
    """Return the bare message of an error that the flags wrap in another, or in a traceback."""
    while error.args and isinstance(error.args[0], Exception):
        error = error.args[0]
    text = str(error.args[0] if isinstance(error, KeyError) else error)
    if "Traceback" in text:  # of the config's file
        flag, text = text.partition(": ")[0], text.rstrip().rpartition("\n")[2].partition(": ")[2]
        if "get_config() takes" in text:
            text = f"{flag}: it has no variants; leave out the colon and what follows"
    return text.removeprefix("flag ")


def _fail(error, code):
    print(f"launch.py: error: {' '.join(str(error).split())}", file=sys.stderr)
    return code


def main(argv=None):
    """Parse flags and run; return the exit code."""
    argv = argv or sys.argv
    if len(argv) < 2 or {"--help", "-h", "-help"} & set(argv):
        app.usage(shorthelp=True, writeto_stdout=True)
        return 0
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s  %(message)s", datefmt="%H:%M:%S"
    )
    logging.getLogger("nas_jax").setLevel(logging.INFO)
    for library in ("absl", "asyncio"):  # Orbax logs at length what it then raises
        logging.getLogger(library).setLevel(logging.CRITICAL)
    environment.configure()
    try:
        _parse_arguments(argv)
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        return _fail(_last_words(error), 2)
    return _run_joined() if _DISTRIBUTED.value else _run()


if __name__ == "__main__":
    sys.exit(main())
