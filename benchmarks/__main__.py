"""Measure speed side by side with the baselines, in one process on the same cores.

  python -m benchmarks train_step      a training step: all paths on, and dropped over the ramp
  python -m benchmarks scoring         architectures scored per second
  python -m benchmarks prefixes        the same in a chain space, where candidates share beginnings
  python -m benchmarks proxies         architectures that training-free proxies measure per second
  python -m benchmarks compile_time    the training step, with a cold and a warm cache
  python -m benchmarks programs        the programs that a digits search compiles
  python -m benchmarks standalone      networks of the digits search, trained each and together
  python -m benchmarks memory          temporary memory of the forms
  python -m benchmarks accelerators    a run's programs, compiled for a TPU or GPU that is not here
  python -m benchmarks depthwise       depthwise convolutions of a TPU that is not here: two forms
  python -m benchmarks device          what the device reaches: a copy, a product of matrices
  python -m benchmarks data_pipeline   images per second that reach the training step
  python -m benchmarks scaling         scoring against candidates, images, cells and F: a figure
  python -m benchmarks reading         files that a reader walks through: no speed, two counts

PyTorch, if installed, is the baseline; `pip install torch` is up to you. Every case is a line here
and a line of JSON in --output.
"""

import argparse
import importlib
import os

from nas_jax.runtime import environment
from nas_jax.storage import file_paths

_NAMES = (
    *("train_step", "scoring", "prefixes", "compile_time", "programs", "standalone"),
    *("memory", "accelerators", "depthwise", "device", "data_pipeline", "scaling", "reading"),
    "proxies",
)


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=_NAMES)
    add = parser.add_argument
    add("--threads", type=int, default=len(os.sched_getaffinity(0)), help="cores; all are pinned")
    add("--devices", type=int, default=1, help="JAX devices that share those cores (CPU only)")
    add("--filters", type=int, default=16, help="F")
    add("--cells", type=int, default=6)
    add("--blocks", type=int, default=4, help="per cell")
    add("--image-size", type=int, default=32, help="pixels")
    add("--images", type=int, nargs="+", default=[64, 512], help="scoring: images per candidate")
    add("--candidates", type=int, default=16, help="scored at once, on each device")
    add("--batch-size", type=int, default=256, help="images per step, or of a convolution")
    add("--all-on", type=int, default=64, help="train_step: images with all paths on; 0: none")
    add("--ghost-batch-size", type=int, default=32, help="train_step: images per ghost batch")
    add("--remat", default="none", help="train_step: supernet.remat, none, norms or ops")
    add("--ramp", type=float, nargs="*", default=[0, 0.5, 1], help="train_step: places on the ramp")
    add(
        "--executions", nargs="+", help="masked, switch, dispatch; default: switch, or the target's"
    )
    add("--target", default="h100", help="that is not here: v5e-4, v5e-16, v4-8, v5p-8 or h100")
    add("--config", default="cifar", help="accelerators: a config that comes with nas_jax")
    add("--fields", nargs="+", default=[], help="accelerators: of the config, supernet.remat=ops")
    add("--stages", nargs="+", default=[], help="accelerators: supernet, sweep, retrain.short, ..")
    add("--dtype", choices=("float32", "bfloat16"), default="float32", help="of activations")
    add("--naive", action="store_true", help="also JAX as one would first write it")
    add("--torch-compile", action="store_true", help="also torch.compile, for all paths on")
    add("--repeats", type=int, default=5)
    add("--output", type=_output, default="benchmarks/results.jsonl")
    return parser


def _output(given):
    try:
        return str(file_paths.local(given, "--output"))
    except ValueError as error:
        raise argparse.ArgumentTypeError(error) from error


def _pin(threads, devices):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    if devices > 1:
        count = f"--xla_force_host_platform_device_count={devices}"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {count}"


if __name__ == "__main__":
    arguments = _parser().parse_args()
    usual = "auto" if arguments.name == "accelerators" else "switch"
    arguments.executions = arguments.executions or [usual]
    _pin(arguments.threads, arguments.devices)  # before JAX or PyTorch count the cores
    environment.configure()
    importlib.import_module(f"benchmarks.{arguments.name}").run(arguments)
