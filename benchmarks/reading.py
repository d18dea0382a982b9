"""How far a reader walks: two counts over what a tiny run calls, whatever the device's speed.

mask   what runs in the mode "supernet" until the first mask of the first training step is handed to
       the sum of options: distinct functions (with lambdas and comprehensions) and their files,
       and those files that the step itself enters. Those on the call stack are the way.
sweep  the walk after the run through the stage "sweep", to the first round's evaluation: functions
       that have an argument `run` or `config`, and those that these call, each when it is first
       called. A climb goes to a file of a higher row (tests/test_packages.py), a return to a file
       that was left before.

What runs while a module is imported does not count. It needs the packages of the tests.
"""

import itertools
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import nas_jax
from benchmarks import harness
from nas_jax import pipeline
from tests import test_packages
from tests.configs import tiny

_ROOT = str(Path(nas_jax.__file__).parent) + os.sep


class Call(NamedTuple):
    """A call of a function of the package.

    Attributes:
      file: relative to the package.
      function: its qualified name.
      line: where it is defined.
      takes_run: whether it has an argument `run` or `config`.
      callers: the calls of the package that it happens in, the outermost first.
    """

    file: str
    function: str
    line: int
    takes_run: bool
    callers: tuple["Call", ...]


def run(args) -> None:
    """Print and record both counts."""
    config = tiny.get_config()
    with tempfile.TemporaryDirectory() as folder:
        training, sweep = (
            calls_of(lambda mode=mode: pipeline.run(config, mode, folder))
            for mode in ("supernet", "sweep")
        )
    counts = {"mask": to_the_first_mask(training), "sweep": after_the_run(sweep)}
    for case, found in counts.items():
        print(f"{case}: " + ", ".join(f"{name} {value}" for name, value in found.items()))
        harness.record(args, case, **found)


def calls_of(work: Callable[[], None]) -> list[Call]:
    """Do some work, and return the calls of the package in their order."""
    calls, stack = [], []

    def on_event(frame, event, _):
        code = frame.f_code
        if event not in ("call", "return") or not code.co_filename.startswith(_ROOT):
            return
        if event == "return":
            stack.pop()
            return
        file, arguments = code.co_filename.removeprefix(_ROOT), code.co_varnames[: _count(code)]
        takes_run = not {"run", "config"}.isdisjoint(arguments)
        call = Call(file, code.co_qualname, code.co_firstlineno, takes_run, tuple(stack))
        stack.append(call)
        if all(outer.function != "<module>" for outer in stack):
            calls.append(call)

    sys.setprofile(on_event)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls


def _count(code):
    return code.co_argcount + code.co_kwonlyargcount


def to_the_first_mask(calls: list[Call]) -> dict:
    """Count what runs before, and the files of the way there."""
    found = list(itertools.takewhile(lambda call: not _is_first_mask(call), calls))
    last = calls[len(found)]
    way = dict.fromkeys(call.file for call in (*last.callers, last))
    run_before = {call[:3] for call in (*found, last)}
    return {
        "functions": len(run_before),
        "files": len({file for file, *_ in run_before}),
        "files of the step": len({call.file for call in (*found, last) if _in_step(call)}),
        "way": list(way),
    }


def _in_step(call):
    return any(outer.function == "TrainStep.__call__" for outer in (*call.callers, call))


def _is_first_mask(call):
    return _in_step(call) and call[:2] == ("nn/execution.py", "weighted_sum")


def after_the_run(calls: list[Call]) -> dict:
    """Count the files of the walk, its climbs and its returns."""
    begin = next(i for i, call in enumerate(calls) if call[:2] == ("candidates/sweep.py", "search"))
    end = next(
        i for i, call in enumerate(calls) if call[:2] == ("candidates/evaluators.py", "rows")
    )
    counted = [call[:3] for call in calls[begin : end + 1] if _is_read(call)]
    walk = [file for file, _ in itertools.groupby(file for file, *_ in dict.fromkeys(counted))]
    rows = [test_packages.ROW[Path(file).with_suffix("").parts[0]] for file in walk]
    return {
        "files": len(set(walk)),
        "climbs": sum(after > before for before, after in itertools.pairwise(rows)),
        "returns": len(walk) - len(set(walk)),
        "walk": walk,
    }


def _is_read(call):
    by = call.callers[-1:]
    named = not call.function.rpartition(".")[2].startswith("<")
    return named and (call.takes_run or any(caller.takes_run for caller in by))
