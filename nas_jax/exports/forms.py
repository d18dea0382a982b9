"""The forms of an exported network: each is written to a file, and read back as a function.

params.safetensors  its arrays, by name
model.py            plain Flax, which reads them
model.stablehlo     the program with its arrays, of `jax.export`, for any batch and three platforms
model.onnx          the same for ONNX, where jax2onnx is installed
"""

import contextlib
import functools
import importlib.util
import io
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from safetensors import numpy as safetensors

from nas_jax.exports import plain, renaming

PARAMS, PLAIN, STABLEHLO, ONNX = (
    "params.safetensors",
    "model.py",
    "model.stablehlo",
    "model.onnx",
)
ALL = (PARAMS, PLAIN, STABLEHLO, ONNX)
PLATFORMS = ("cpu", "cuda", "tpu")
_EXTRA = "jax2onnx"

Logits = Callable[[np.ndarray], Any]  # images uint8 [B, H, W, C] -> logits float32 [B, K]


def save_params(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays by name, in the order of the names."""
    path.write_bytes(
        safetensors.save({name: np.ascontiguousarray(arrays[name]) for name in arrays})
    )


def read_params(path: Path) -> dict[str, Any]:
    """Read arrays as variables: {"params": .., "batch_stats": ..}, nested by scope."""
    return flax.traverse_util.unflatten_dict(safetensors.load_file(path), sep=renaming.SEPARATOR)


def of_network(net: nn.Module, variables: Any, prepare: Callable) -> Logits:
    """Return the function of a network itself, at float32.

    Args:
      net: a `network.Network` with running statistics.
      variables: its params and batch_stats.
      prepare: images uint8 -> float32, standardised.
    """
    exact = net.clone(dtype=jnp.float32)
    return lambda images: exact.apply(variables, prepare(images))


def read_plain(folder: Path) -> Logits:
    """Return the function of a model.py, with the parameters beside it."""
    source = (folder / PLAIN).read_text(encoding="utf-8")
    module, variables = plain.module_of(source).load(folder / PARAMS)
    return functools.partial(module.apply, variables)


def save_stablehlo(path: Path, function: Logits, image_shape: tuple[int, int, int]) -> None:
    """Write a function as an artifact for any batch, of `PLATFORMS`.

    Products are of full float32 on all of them; on accelerators JAX's default is less.
    """
    with jax.default_matmul_precision("highest"), _without_places():
        exported = jax.export.export(jax.jit(function), platforms=PLATFORMS)(_images(image_shape))
    path.write_bytes(exported.serialize())


@contextlib.contextmanager
def _without_places():
    """Leave files and lines of this machine's code out of programs, which are then reproducible."""
    name = "jax_traceback_in_locations_limit"
    before = getattr(jax.config, name)
    jax.config.update(name, 0)
    try:
        yield
    finally:
        jax.config.update(name, before)


def read_stablehlo(path: Path) -> Logits:
    """Return the function of an artifact."""
    return jax.export.deserialize(bytearray(path.read_bytes())).call


def has_stablehlo() -> bool:
    """Say whether flatbuffers, of the extra [export], is installed: JAX's artifacts need it."""
    return importlib.util.find_spec("flatbuffers") is not None


def has_onnx() -> bool:
    """Say whether the libraries of the extra [onnx] are installed."""
    return all(importlib.util.find_spec(name) for name in (_EXTRA, "onnxruntime"))


def save_onnx(path: Path, function: Logits, image_shape: tuple[int, int, int]) -> None:
    """Write a function of plain Flax as ONNX, with the batch as a free axis.

    Raises: errors of many kinds if jax2onnx cannot convert it.
    """
    with _quiet(), _numpy_kept():
        import onnx
        from jax2onnx import to_onnx

        names = {"input_names": ["images"], "output_names": ["logits"]}
        model = to_onnx(function, [_images(image_shape)], **names)
        # The converter moves axes, but leaves the shapes that tensors had before: ONNX finds them.
        del model.graph.value_info[:]
        onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())


def _images(image_shape):
    return jax.ShapeDtypeStruct((*jax.export.symbolic_shape("batch"), *image_shape), jnp.uint8)


def read_onnx(path: Path) -> Logits:
    """Return the function of an ONNX file, run by onnxruntime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": np.asarray(images)})[0]


@contextlib.contextmanager
def _numpy_kept():
    """Put back what the converter replaces in `jax.numpy` for good: its `cumsum` takes no axis."""
    before = dict(vars(jnp))
    try:
        yield
    finally:
        for name, value in before.items():
            if vars(jnp).get(name) is not value:
                setattr(jnp, name, value)


@contextlib.contextmanager
def _quiet():
    """Drop what the converter prints and logs of itself."""
    logger = logging.getLogger(_EXTRA)
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
