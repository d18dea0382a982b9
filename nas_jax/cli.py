"""One-shot neural architecture search: train a supernet, evaluate candidates, retrain the best.

  {0} --config=digits                                 the whole search, embedded data
  {0} --config=cifar --mode=supernet                  the paper's supernet on CIFAR-10
  {0} --config=cifar:small                            a search for a CPU
  {0} --config=nasbench_macro:small                   judged by published accuracies
  {0} --config=mine.py --config.seed=1 --workdir=runs/seed1
  {0} --config=mine.py --mode=check                   what it will take, before it runs
  {0} --config=cifar --mode=check --target=v5e-16     whether it fits a TPU that is not here
  {0} --config=cifar --mirror=gs://bucket/run         on a host that may go at any time

Modes (each resumes where it was stopped; none repeats what is there):
  supernet  train the supernet with path dropout          -> checkpoints/, metrics.jsonl
  sweep     evaluate candidates on validation images      -> trials.jsonl
  retrain   train chosen architectures from scratch       -> retrain/
  report    tables and figures of all of it               -> report/report.md, index.html
  search    the four above in order (the default)
  study     an experiment: the default of a config studies/NAME, or one with study.parts
  check     say what is wrong, and what a run will take; write nothing
  export    a network that was trained alone, as a folder -> export/<its name>/
  predict   the classes of images, by an exported network; a line of JSON each

These two need no config, nor does a report:
  {0} --mode=export --workdir=runs/digits              the best network; --network= names others
  {0} --mode=predict --model=DIR IMAGES..              files, and folders of them

Any field of the config can be set: --config.supernet.train.base_lr=0.2
Exit codes: 0 done, 1 the training diverged (or an error that nobody foresaw), 2 wrong input or too
little memory or disk, 130 Ctrl-C, 143 SIGTERM (with a checkpoint). Whatever ended it, the same
command goes on from there.
"""

import logging
import os
import re
import sys
import textwrap
import traceback
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from nas_jax import config as config_lib
from nas_jax import plugins
from nas_jax.config import field_list, field_names, files, flag_types, recipes
from nas_jax.config.variants import flatten
from nas_jax.runtime import environment, run_log
from nas_jax.runtime.preemption import Interrupted

logger = logging.getLogger(__name__)
_FIELD = re.compile(r"--?(?:no)?config\.([^=]+)=?(.*)", re.DOTALL)
_OF_RUN = ("config", "workdir", "distributed", "mirror")
_NAMES = (*_OF_RUN, "network", "folder", "model", "target")
_FLAGS_OF = {
    "export": ("workdir", "config", "network", "folder"),
    "predict": ("model",),
    "check": ("config", "workdir", "distributed", "target"),
}
_HELP = {"--help", "-h", "-help", "--helpfull"}


flag_types.register()


def _flags():
    """Define the flags, all but those that set fields of the config."""
    values = flags.FlagValues()
    values.set_gnu_getopt()  # what follows a field's value is read, too
    about = {
        "config": "A config that comes with nas_jax, by name, or FILE.py; NAME:variant.",
        "mode": "What to do; default: see above.",
        "distributed": "One of several processes of a run.",
        "workdir": "Folder of the run; default: runs/<config name>.",
        "mirror": "gs://.., s3://.. or a folder: the workdir goes there and, lost, comes back.",
        "network": "To export: best (default), an architecture or its id, or group:NAME.",
        "folder": "Of the export; default: WORKDIR/export/<name of the network>.",
        "model": "To predict: folder of an exported network.",
        "target": "To check: accelerators to compile for, such as v5e-16 or h100.",
    }
    flags.DEFINE_string("config", None, about["config"], flag_values=values)
    flags.DEFINE_enum("mode", None, config_lib.MODES, about["mode"], flag_values=values)
    flags.DEFINE_bool("distributed", False, about["distributed"], flag_values=values)
    for name in ("workdir", "mirror", "network", "folder", "model", "target"):
        flags.DEFINE_string(name, None, about[name], flag_values=values)
    return values


def _parse_arguments(argv):
    """Read the flags, then the config's file, and set its fields.

    Returns: the flags; the config, or for a mode that needs none the other arguments.
    """
    values = _flags()
    others = values(argv, known_only=True)[1:]
    _check_mode_has(values, others)
    if values.mode in config_lib.EXPORT_MODES:
        return values, values(argv)[1:]
    for argument in others:
        if re.match(r"--?[a-zA-Z]", argument) and not re.fullmatch(_FIELD, argument):
            values([argv[0], argument])  # raises, with the nearest flag
    reports = values.mode == "report" and values.workdir
    if values.config is None and not reports:
        raise ValueError(
            f"--config is missing, e.g. --config=digits; there are {', '.join(files.names())}, "
            "and files of your own"
        )
    config = files.load(values.config) if values.config else files.of_workdir(values.workdir)
    if not values.config and config.get("study", {}).get("parts"):
        raise ValueError(
            f"--workdir={values.workdir} is of a study, whose report --mode=study writes: give its "
            "--config, too"
        )
    if not isinstance(config, ConfigDict):
        example = "such as nas_jax.config.default()"
        raise ValueError(f"--config: get_config() must return a ConfigDict, {example}")
    config = _with_fields_of_its_space(config, others)
    _check_fields(others, dict(flatten(config)))
    before = config.copy_and_resolve_references()
    config = _with_fields(config, [argv[0], *others])
    _set_recipe(config, before, [field for field, _ in _given(others)])
    return values, config


def _with_fields(config, arguments):
    """Set the fields that arguments name, whose first is the command's name."""
    values = flags.FlagValues()
    try:
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=arguments)
    except flags.Error as error:
        if untyped := re.search(r"NoneType.* of field (\S+) is not supported", str(error)):
            raise ValueError(
                f"--{untyped[1]} has the default None, and so no type: set it in a config file"
            ) from error
        raise
    if stray := values(arguments)[1:]:
        raise ValueError(f"{stray[0]!r} is no flag; fields are set by --config.{stray[0]}")
    return values.config


def _set_recipe(config, before, given):
    """Set the fields that come with the training variant, by what the arguments set."""
    if values := recipes.follow(config, before, given):
        fields = " ".join(f"--config.{field}={value!r}" for field, value in values.items())
        logger.info("supernet.variant=%r also sets %s", config.supernet.variant, fields)


def _check_mode_has(values, others):
    """Refuse flags that the mode would not look at, and those without a value."""
    mode = values.mode or "search"
    own = _FLAGS_OF.get(mode, _OF_RUN)
    given = [name for name in _NAMES if values[name].present]
    if empty := [name for name in given if values[name].value == ""]:
        raise ValueError(f"--{empty[0]}= is empty: give it a value, or leave it out")
    if mode in config_lib.EXPORT_MODES:
        given += [f"config.{found[1]}" for each in others if (found := re.match(_FIELD, each))]
    stray = [name for name in given if name not in own]
    if stray:
        flags_there = ", ".join(f"--{name}" for name in own)
        raise ValueError(f"--{stray[0]} is no flag of --mode={mode}, which has {flags_there}")


def _with_fields_of_its_space(config, arguments):
    """Give the config the fields of the space that arguments name, if others set them."""
    given = dict(_given(arguments))
    present, name = dict(flatten(config)), given.get("space.name")
    if not name or all(field in present for field in given if field.startswith("space.")):
        return config
    from nas_jax import build  # imports JAX, and most errors must be quick

    config = config.copy_and_resolve_references()
    config.space.name = name
    return build.with_space_fields(config)


def _given(arguments):
    """Yield (field, text of its value) of arguments; the value may be the next argument."""
    for argument, following in zip(arguments, [*arguments[1:], ""]):
        if given := re.fullmatch(_FIELD, argument):
            yield given[1], given[2] if "=" in argument else following


def _check_fields(arguments, fields):
    """Check that the fields that arguments set exist, and that no tuple is given twice.

    The flags would join the two tuples; of other fields the last value counts.
    """
    seen = set()
    for argument in arguments:
        given = re.fullmatch(_FIELD, argument)
        if not given:
            continue
        is_section = any(name.startswith(f"{given[1]}.") for name in fields)
        if not (is_section and given[2].startswith("{")):
            field_names.check(given[1], fields)
        if given[1] in seen and isinstance(fields.get(given[1]), tuple):
            raise ValueError(
                f"--config.{given[1]} is given twice; give all items at once, as "
                f"--config.{given[1]}={str(fields[given[1]])!r}"
            )
        seen.add(given[1])


def _run_joined(values, config, fail):
    """Run as one of several processes.

    JAX would make this process wait for the others at its end, and the others for this one. So
    after a failure it exits at once, which ends the others.
    """
    try:
        from nas_jax.runtime import distributed

        distributed.initialize()
    except ValueError as error:
        return fail(error, 2)
    if not distributed.is_lead():
        logging.getLogger("nas_jax").setLevel(logging.WARNING)
    code = 1
    try:
        code = _run(values, config, fail)
    except Exception:
        traceback.print_exc()
    if code:
        sys.stderr.flush()
        os._exit(code)
    return code


def _run(values, config, fail):
    try:
        from nas_jax import pipeline  # imports JAX, and --help must be quick

        workdir = values.workdir or files.default_workdir(values.config)
        if values.mode == "report" and not values.mirror:
            files.path_in_workdir(workdir)  # raises where there is no run
        with run_log.with_bar():
            if values.target is not None:
                print(pipeline.check(config, workdir, target=values.target))
            else:
                pipeline.run(config, values.mode, workdir, mirror=values.mirror)
    except KeyboardInterrupt as stop:
        return 143 if isinstance(stop, Interrupted) else 130
    except FloatingPointError as error:
        return fail(error, 1)
    except ValueError as error:
        return fail(error, 2)
    return 0


def _export_or_predict(values, images, fail):
    """Run a mode that needs no config."""
    try:
        from nas_jax.exports import commands, folder

        if values.mode == "predict":
            commands.predict(values.model, images)
            return 0
        if images:
            raise ValueError(f"{images[0]!r} is no flag")
        if not values.workdir and values.config is None:
            raise ValueError("--workdir is missing: the folder of the run whose network to export")
        if values.workdir and values.config is not None:
            raise ValueError(
                f"--config={values.config} is not looked at beside --workdir, which has its own "
                "config.json: leave one of them out"
            )
        workdir = values.workdir or files.default_workdir(values.config)
        folder.export(workdir, values.network or "best", values.folder)
    except KeyboardInterrupt:
        return 130
    except ValueError as error:
        return fail(error, 2)
    return 0


def _last_words(error):
    """Return the bare message of an error that the flags wrap in another."""
    while error.args and isinstance(error.args[0], Exception):
        error = error.args[0]
    return str(error).removeprefix("flag ")


def _help(program, with_fields):
    command = "python launch.py" if program == "launch.py" else program
    own = _flags().get_flags_for_module(__name__)
    names = textwrap.fill(f"Configs: {', '.join(files.names())}", 100)
    more = field_list.text() if with_fields else f"{command} --help lists all fields of a config."
    return "\n".join(
        [
            __doc__.format(command),
            *(f"--{flag.name}: {flag.help}" for flag in own),
            "",
            names,
            "",
            more,
        ]
    )


def _set_up_logging():
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s  %(message)s", datefmt="%H:%M:%S"
    )
    logging.getLogger("nas_jax").setLevel(logging.INFO)
    for library in ("absl", "asyncio"):  # Orbax logs at length what it then raises
        logging.getLogger(library).setLevel(logging.CRITICAL)


def main(argv: list[str] | None = None) -> int:
    """Parse flags and run; return the exit code. `argv` begins with the name of the command."""
    argv = argv or sys.argv
    program = Path(argv[0]).name

    def fail(error, code):
        print(f"{program}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return code

    if len(argv) < 2 or _HELP & set(argv):
        try:
            print(_help(program, with_fields=len(argv) > 1), flush=True)
        except BrokenPipeError:  # of `| head`; Python flushes once more at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    _set_up_logging()
    environment.configure()
    try:
        values, given = _parse_arguments(argv)
    except (flags.Error, ValueError) as error:
        return fail(_last_words(error), 2)
    except Exception as error:  # of the config's file
        return fail(f"--config: {plugins.described(error)}", 2)
    if values.mode in config_lib.EXPORT_MODES:
        return _export_or_predict(values, given, fail)
    return (_run_joined if values.distributed else _run)(values, given, fail)
