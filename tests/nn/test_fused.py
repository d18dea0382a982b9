"""The fused kernels of GPUs, interpreted on the CPU, against sums of float32 rounded alike."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nas_jax import spaces
from nas_jax.aot import targets
from nas_jax.nn import kernels
from nas_jax.nn.kernels import fused
from nas_jax.runtime import rng
from tests.spaces.test_cell import random_variables

RNG = np.random.default_rng(0)
ROWS = jnp.asarray([1, 0, 1, 1], jnp.int32)
MASK = jnp.asarray([[1, 0, 0.5], [0, 1, 1]])
BFLOAT16_STEP = 2.0**-7


def normal(*shape, dtype=jnp.float32):
    return jnp.asarray(RNG.normal(size=shape), dtype)


def unit_args(size=3, dtype=jnp.float32, num=3, channels=16):
    """2 groups of images 5x5, to twice as many channels."""
    scales = normal(2, 1, 1, 1, channels), normal(2, 1, 1, 1, channels)
    weights = normal(size, size, 1, channels), normal(channels, 2 * channels)
    return normal(2, num, 5, 5, channels, dtype=dtype), *scales, *weights


def project_args(dtype=jnp.float32, num=3, widths=(16, 16, 32)):
    """3 parts of images 5x5, of which all groups share the second, to 16 channels."""
    shapes = list(zip((2, 1, 2), widths))
    parts = [normal(g, num, 5, 5, c, dtype=dtype) for g, c in shapes]
    factors, shifts = ([normal(g, 1, 1, 1, c) for g, c in shapes] for _ in range(2))
    return parts, factors, shifts, [normal(c, 16) for c in widths]


def rounded(x, dtype):
    return x.astype(dtype).astype(jnp.float32)


def normalised(x, factor, shift):
    return rounded(jnp.maximum(x * factor + shift, 0), x.dtype)


def unit_by_steps(x, factor, shift, depthwise, pointwise, rows):
    h = normalised(x, factor, shift)[rows]
    h = kernels.depthwise(h.reshape(-1, *h.shape[2:]), rounded(depthwise, x.dtype))
    h = rounded(h, x.dtype).reshape(-1, *x.shape[1:])
    return (h @ rounded(pointwise, x.dtype)).astype(x.dtype)


def project_by_steps(parts, factors, shifts, weights):
    total, dtype = 0, parts[0].dtype
    for j, (x, factor, shift, weight) in enumerate(zip(parts, factors, shifts, weights)):
        h = normalised(x, factor, shift) * MASK[:, j].reshape(-1, 1, 1, 1, 1)
        total += h @ rounded(weight, dtype)
    return total.astype(dtype)


def interpreted(kernel, *args):
    return jax.jit(lambda *args: kernel(*args, interpret=True))(*args)


def assert_near(results, y):
    """Values: to rounding. Sums: of the values as they were rounded."""
    step = BFLOAT16_STEP if y.dtype == jnp.bfloat16 else 1e-5
    out, *sums = results
    assert (out.dtype, out.shape) == (y.dtype, y.shape)
    y, out = (np.asarray(v, np.float32) for v in (y, out))
    np.testing.assert_allclose(out, y, rtol=step, atol=step * np.abs(y).max() / 4)
    for total, exponent in zip(sums, (1, 2)):
        of_out = np.sum(out.astype(np.float64) ** exponent, (1, 2, 3), keepdims=True)
        scale = np.sum(np.abs(out) ** exponent, (1, 2, 3), keepdims=True)
        np.testing.assert_array_less(np.abs(total - of_out), 1e-5 * scale)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize(("size", "num"), [(3, 3), (5, 9), (7, 3)])  # 9 images: a tile and a rest
def test_the_unit_is_its_steps_for_groups_that_repeat(size, num, dtype):
    args = *unit_args(size, dtype, num), ROWS
    assert_near(interpreted(fused._unit_kernel, *args), unit_by_steps(*args))


def test_the_unit_takes_all_groups_in_order_without_rows():
    args = unit_args()
    results = interpreted(fused._unit_kernel, *args, None)
    assert_near(results, unit_by_steps(*args, jnp.arange(2)))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("num", [3, 9])
def test_the_projection_is_its_steps_with_masks_and_a_shared_part(num, dtype):
    parts, factors, shifts, weights = project_args(dtype, num)
    results = interpreted(fused._project_kernel, parts, factors, shifts, MASK, weights)
    assert_near(results, project_by_steps(parts, factors, shifts, weights))


def test_parts_under_a_mask_of_0_are_not_read():
    parts, factors, shifts, weights = project_args()
    expected = project_by_steps(parts, factors, shifts, weights)
    parts[0] = parts[0].at[1].set(jnp.nan)
    assert_near(interpreted(fused._project_kernel, parts, factors, shifts, MASK, weights), expected)


@pytest.mark.parametrize("channels", [16, 12])  # 12: of the kernels, none takes it
def test_elsewhere_both_are_their_steps(channels):
    args = *unit_args(channels=channels), ROWS
    assert_near(fused.unit(*args), unit_by_steps(*args))
    parts, factors, shifts, weights = project_args(widths=(channels, 16, 16))
    results = fused.project(parts, factors, shifts, MASK, weights)
    assert_near(results, project_by_steps(parts, factors, shifts, weights))


def test_without_a_mask_all_parts_are_taken():
    *of_parts, weights = project_args()
    ones = fused.project(*of_parts, jnp.ones((2, 3)), weights)
    jax.tree.map(np.testing.assert_array_equal, fused.project(*of_parts, None, weights), ones)


def assert_gradients_agree(function, steps, args):
    """Of a loss that takes the result and its sums."""

    def loss(y, total, squares):
        return jnp.sum(jnp.sin(y)) + jnp.sum(total * jnp.cos(squares / 1000))

    def by_steps(args):
        y = steps(*args)
        return loss(y, *(jnp.sum(v, (1, 2, 3), keepdims=True) for v in (y, y * y)))

    grads = jax.jit(jax.grad(lambda args: loss(*function(*args))))(args)
    for a, b in zip(*map(jax.tree.leaves, (grads, jax.jit(jax.grad(by_steps))(args)))):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max())


def test_gradients_are_those_of_the_steps():
    def unit(*args):
        return fused.unit(*args, ROWS)

    assert_gradients_agree(unit, lambda *args: unit_by_steps(*args, ROWS), unit_args())

    def project(parts, factors, shifts, weights):
        return fused.project(parts, factors, shifts, MASK, weights)

    assert_gradients_agree(project, project_by_steps, project_args())


# In a process of its own, since a compiler of another platform cannot be unloaded.
COMPILES = """
import jax, jax.numpy as jnp
from nas_jax.aot import targets
from nas_jax.nn.kernels import fused
from tests.nn import test_fused
with targets.compiling():
    jax.devices()
    unit = *test_fused.unit_args(7, jnp.bfloat16), test_fused.ROWS
    *of_parts, weights = test_fused.project_args(jnp.bfloat16)
    project = *of_parts, test_fused.MASK, weights
    for function, args in (fused.unit, unit), (fused.project, project):
        shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct((1, *a.shape), a.dtype), args)
        mapped = jax.pmap(function, devices=targets.devices("h100")[:1])
        print(mapped.lower(*shapes).compile().as_text())
"""


@pytest.mark.skipif(not targets.is_installed("cuda"), reason="its compiler is missing: jax[cuda12]")
def test_both_are_one_kernel_of_an_h100():
    run = subprocess.run(
        [sys.executable, "-c", COMPILES], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("xla.gpu.triton") == 2


@pytest.fixture
def fusing(monkeypatch):
    """As in a process that was started with the kernels: no program is traced yet."""
    jax.clear_caches()
    monkeypatch.setenv("NAS_JAX_FUSED_KERNELS", "1")
    yield monkeypatch
    jax.clear_caches()


@pytest.mark.system
@pytest.mark.parametrize("how", ["masked", "dispatch:2", None])
def test_a_network_of_these_kernels_is_the_same(how, fusing):
    """The supernet under two masks, and a network alone: logits and gradients."""
    space = spaces.make("cell", num_cells=2, cells_per_stage=1, num_blocks=1)
    archs = space.sample(rng.key(1), (3,))
    options = {"num_classes": 10, "filters": 16}
    if how is None:
        net, given = space.standalone(space.to_strs(archs)[0], **options), ()
    else:
        net, given = space.supernet(execution=how, **options), (archs,)
    images = np.asarray(normal(3, 4, 8, 8, 3))[: 3 if given else 1]
    params = random_variables(net.clone(execution="masked"), images, *given)["params"]

    @jax.value_and_grad
    def loss(params):
        return jnp.sum(jnp.sin(net.apply({"params": params}, images, *given)))

    ours = jax.jit(loss)(params)
    kinds = str(jax.make_jaxpr(loss)(params))
    assert "pallas_call" in kinds  # for "cuda", of the platforms that it may be lowered for
    fusing.delenv("NAS_JAX_FUSED_KERNELS")
    jax.clear_caches()
    theirs = jax.jit(loss)(params)
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(theirs))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * largest), ours, theirs
    )
