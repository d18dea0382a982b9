"""Candidate operations against XLA's own, in value and in gradient; batch norm by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from nas_jax.nn import kernels, layers


def random(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@functools.partial(jax.jit, static_argnums=0, static_argnames="mutable")
def apply(module, variables, *args, mutable=False):
    return module.apply(variables, *args, mutable=mutable)


def assert_same(ours, theirs, *args):
    """Same values, and same gradients of a random functional with respect to every argument."""

    @jax.jit
    def both(weights, args):
        pulled = (jax.vjp(f, *args) for f in (ours, theirs))
        return [(value, pull(weights)) for value, pull in pulled]

    def close(x, y):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5 * max(1, np.abs(y).max()))

    weights = jax.tree.map(lambda out: random(9, *out.shape), jax.eval_shape(ours, *args))
    jax.tree.map(close, *both(weights, args))


@pytest.fixture(params=["cpu", "cuda", "tpu"])
def platform(request, monkeypatch):
    """What is computed on that platform, computed here; no trace of another one is used."""

    def of_platform(*args, default, **forms):
        return forms.get(request.param, default)(*args)

    jax.clear_caches()
    monkeypatch.setattr(lax, "platform_dependent", of_platform)
    yield
    jax.clear_caches()


# -- convolutions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 8, 8, 4), (2, 5, 4, 3), (1, 4, 12, 24)])
def test_depthwise(shape, platform):
    reference = functools.partial(
        lax.conv_general_dilated,
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=shape[-1],
    )

    def each(function, x, by_size):
        return [function(x, kernel) for kernel in by_size]

    by_size = [random(1, size, size, 1, shape[-1]) for size in (3, 5, 7)]
    ours, theirs = (functools.partial(each, f) for f in (kernels.depthwise, reference))
    assert_same(ours, theirs, random(0, *shape), by_size)


@pytest.mark.parametrize("shape", [(2, 8, 8, 4), (1, 7, 6, 3)])
def test_with_a_stride_it_is_every_second_pixel(shape, platform):
    """Values and gradients, of full and of depthwise convolutions."""

    def strided(x, full, depthwise):
        outs = [kernels.conv(x, kernel, stride=2) for kernel in full]
        return outs + [kernels.depthwise(x, kernel, stride=2) for kernel in depthwise]

    def thinned(x, full, depthwise):
        outs = [kernels.conv(x, kernel) for kernel in full]
        outs += [kernels.depthwise(x, kernel) for kernel in depthwise]
        return [out[:, ::2, ::2] for out in outs]

    full, depthwise = (
        [random(1, size, size, *depth) for size in (3, 5)]
        for depth in ((shape[-1], 5), (1, shape[-1]))
    )
    assert_same(strided, thinned, random(0, *shape), full, depthwise)


def test_a_strided_1x1_convolution_is_of_every_second_pixel():
    x, kernel = random(0, 1, 2, 4, 6, 3), random(1, 1, 1, 3, 5)
    np.testing.assert_allclose(
        layers.conv(x, kernel, 2), layers.conv(x, kernel)[:, :, ::2, ::2], rtol=1e-6, atol=1e-7
    )


def test_depthwise_keeps_channels_apart():
    kernel = np.zeros((3, 3, 1, 2), np.float32)
    kernel[1, 1, 0, 0] = 2  # channel 0: doubled
    kernel[1, 0, 0, 1] = 1  # channel 1: from the left neighbour
    x = jnp.arange(6.0).reshape(1, 1, 3, 2)  # rows 0 2 4 and 1 3 5
    out = kernels.depthwise(x, jnp.asarray(kernel))
    np.testing.assert_array_equal(out[0, 0, :, 0], [0, 4, 8])
    np.testing.assert_array_equal(out[0, 0, :, 1], [0, 1, 3])


def test_pointwise():
    reference = functools.partial(jnp.einsum, "gnhwc,cd->gnhwd")
    assert_same(kernels.pointwise, reference, random(0, 2, 3, 4, 4, 5), random(1, 5, 6))


@pytest.mark.parametrize(
    ("kernel", "stride", "size"), [((1, 7), 1, 6), ((7, 1), 1, 6), ((3, 3), 2, 3)]
)
def test_conv_is_apart_for_each_image(kernel, stride, size):
    x, w = random(0, 2, 3, 6, 6, 2), random(1, *kernel, 2, 5)
    out = layers.conv(x, w, stride)
    assert out.shape == (2, 3, size, size, 5)
    padding = [(side // 2, side // 2) for side in kernel]
    one = lax.conv_general_dilated(
        x[1, 2][None], w, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(out[1, 2], one[0], rtol=1e-5, atol=1e-5)


# -- pooling --------------------------------------------------------------------------------------


def windows(x, combine, start):
    return lax.reduce_window(x, start, combine, (1, 1, 3, 3, 1), (1, 1, 1, 1, 1), "SAME")


def reference_avg(x):
    return windows(x, lax.add, 0.0) / windows(jnp.ones_like(x), lax.add, 0.0)


@pytest.mark.parametrize("shape", [(2, 2, 6, 6, 3), (1, 2, 5, 3, 1)])
def test_pools(shape, platform):
    # Distinct values: at a tie the gradient of a maximum is a matter of taste.
    values = np.random.default_rng(0).permutation(np.prod(shape))
    x = values.reshape(shape).astype(np.float32)
    assert_same(
        lambda x: (kernels.max_pool(x), kernels.avg_pool(x)),
        lambda x: (windows(x, lax.max, -jnp.inf), reference_avg(x)),
        x,
    )


def test_pools_ignore_the_padding():
    x = -jnp.arange(1.0, 10.0).reshape(1, 1, 3, 3, 1)  # -1 -2 -3 | -4 -5 -6 | -7 -8 -9
    highest, mean = kernels.max_pool(x)[0, 0, ..., 0], kernels.avg_pool(x)[0, 0, ..., 0]
    np.testing.assert_array_equal(highest, [[-1, -1, -2], [-1, -1, -2], [-4, -4, -5]])
    # Corner: -(1+2+4+5)/4; edge: -(1+2+3+4+5+6)/6; middle: -45/9.
    np.testing.assert_allclose(mean[0], [-3, -3.5, -4], rtol=1e-6)
    np.testing.assert_allclose(mean[1], [-4.5, -5, -5.5], rtol=1e-6)


def test_halve():
    x = jnp.arange(16.0).reshape(1, 1, 4, 4, 1)
    out = kernels.halve(x)
    assert out.shape == (1, 1, 2, 2, 1)
    # (0+1+4+5)/4, (2+3+6+7)/4, ...
    np.testing.assert_array_equal(out[0, 0, ..., 0], [[2.5, 4.5], [10.5, 12.5]])


# -- ghost batch norm -----------------------------------------------------------------------------

# Two groups of one image of 1x2 pixels: means 2 and 12, variances 1 and 4.
TINY = np.float32([1, 3, 10, 14]).reshape(2, 1, 1, 2, 1)
AFFINE = {"scale": np.float32([2]), "offset": np.float32([5])}


def init(norm):
    return jax.jit(norm.init)(jax.random.key(0), TINY)


def test_ghost_batch_norm_by_hand():
    out = apply(layers.BatchNorm(epsilon=0.0), {"params": AFFINE}, TINY)
    # Both groups become -1, 1; twice that, plus 5.
    np.testing.assert_allclose(out.ravel(), [3, 7, 3, 7], rtol=1e-6)
    # With epsilon 5: (4 - 2)^2 / (4 + 5), so the second group is 5 -+ 2 * 2/3.
    out = apply(layers.BatchNorm(epsilon=5.0), {"params": AFFINE}, TINY)
    np.testing.assert_allclose(out[1].ravel(), [5 - 4 / 3, 5 + 4 / 3], rtol=1e-6)


def test_relu_before_or_after_batch_norm_by_hand():
    x = TINY - 2  # -1, 1 and 8, 12
    after, before = (
        apply(layers.BatchNorm(epsilon=0.0, relu=True, relu_before=first), {"params": AFFINE}, x)
        for first in (False, True)
    )
    # Normalised -1, 1; 5 + 2 * that is positive, so a ReLU after it does nothing.
    np.testing.assert_allclose(after.ravel(), [3, 7, 3, 7], rtol=1e-6)
    np.testing.assert_allclose(before.ravel(), [3, 7, 3, 7], rtol=1e-6)  # 0, 1 become -1, 1 too
    offset = {"params": AFFINE | {"offset": np.zeros(1, np.float32)}}
    after, before = (
        apply(layers.BatchNorm(epsilon=0.0, relu=True, relu_before=first), offset, x)
        for first in (False, True)
    )
    np.testing.assert_allclose(after.ravel(), [0, 2, 0, 2], rtol=1e-6)
    np.testing.assert_allclose(before.ravel(), [-2, 2, -2, 2], rtol=1e-6)


def test_ghost_batch_norm_is_batch_norm_of_each_group():
    x = 3 * random(0, 3, 4, 5, 5, 2) + np.float32([0, 1, 2]).reshape(3, 1, 1, 1, 1)
    params = {"scale": random(1, 2), "offset": random(2, 2)}
    out = apply(layers.BatchNorm(epsilon=1e-3), {"params": params}, x)
    for group, normal in zip(np.asarray(x), out):
        mean, var = group.mean((0, 1, 2)), group.var((0, 1, 2))
        expected = params["scale"] * (group - mean) / np.sqrt(var + 1e-3) + params["offset"]
        np.testing.assert_allclose(normal, expected, rtol=1e-4, atol=1e-5)


def test_batch_statistics_are_stateless():
    variables = init(layers.BatchNorm())
    assert set(variables) == {"params"}
    np.testing.assert_array_equal(variables["params"]["scale"], [1])
    np.testing.assert_array_equal(variables["params"]["offset"], [0])


def test_running_statistics():
    norm = layers.BatchNorm(statistics="running", momentum=0.9, epsilon=0.0)
    stats = init(norm)["batch_stats"]
    assert (stats["mean"], stats["var"]) == (0, 1)  # initialising is not an update
    variables = {"params": AFFINE, "batch_stats": stats}

    out, updated = apply(norm, variables, TINY, mutable="batch_stats")
    np.testing.assert_allclose(out.ravel(), [3, 7, 3, 7], rtol=1e-6)  # the images' own
    # Mean of the groups' means 7 and variances 2.5: .9 * 0 + .1 * 7 and .9 * 1 + .1 * 2.5.
    np.testing.assert_allclose(updated["batch_stats"]["mean"], [0.7], rtol=1e-6)
    np.testing.assert_allclose(updated["batch_stats"]["var"], [1.15], rtol=1e-6)
    _, again = apply(norm, {"params": AFFINE, **updated}, TINY, mutable="batch_stats")
    # .9 * .7 + .1 * 7
    np.testing.assert_allclose(again["batch_stats"]["mean"], [1.33], rtol=1e-6)

    # Reading: 2 (x - 4) / sqrt(16) + 5, whatever the images' own statistics are.
    read = {"mean": np.float32([4]), "var": np.float32([16])}
    out = apply(norm, {"params": AFFINE, "batch_stats": read}, TINY)
    np.testing.assert_allclose(out.ravel(), [3.5, 4.5, 8, 10], rtol=1e-6)
    out, untouched = apply(norm, {"params": AFFINE, "batch_stats": read}, TINY, mutable="other")
    np.testing.assert_allclose(out.ravel(), [3.5, 4.5, 8, 10], rtol=1e-6)
    assert "batch_stats" not in untouched


def test_recorded_statistics_are_a_gradient():
    """As "running" statistics that are written, but by the backward pass, whatever the loss."""
    norm = layers.BatchNorm(statistics="recorded", epsilon=0.0)
    stats = init(norm)["batch_stats"]
    assert (stats["mean"], stats["var"]) == (0, 1)

    def loss(params, stats, factor):
        out = norm.apply({"params": params, "batch_stats": stats}, TINY)
        return factor * jnp.sum(out), out

    gradient = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))
    for factor in (1.0, -3.0):
        (grads, now), out = gradient(AFFINE, stats, factor)
        np.testing.assert_allclose(out.ravel(), [3, 7, 3, 7], rtol=1e-6)  # the images' own
        np.testing.assert_allclose(now["mean"], [7], rtol=1e-6)
        np.testing.assert_allclose(now["var"], [2.5], rtol=1e-6)
        # (x - mean) / deviation is -1 or 1, and sums to 0; the offset counts 4 pixels.
        np.testing.assert_allclose(grads["scale"], [0], atol=1e-5)
        np.testing.assert_allclose(grads["offset"], [4 * factor], rtol=1e-6)


# -- units ----------------------------------------------------------------------------------------


def shapes(module, channels=3):
    x = jax.ShapeDtypeStruct((2, 2, 8, 8, channels), jnp.float32)
    out, variables = jax.eval_shape(module.init_with_output, jax.random.key(0), x)
    return out.shape, {
        "/".join(key.key for key in path): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(variables["params"])
    }


def test_conv_unit():
    out, params = shapes(layers.Conv(5, (1, 7)))
    assert out == (2, 2, 8, 8, 5)
    assert params == {"kernel": (1, 7, 3, 5), "norm/scale": (3,), "norm/offset": (3,)}


def test_separable_unit_has_one_batch_norm():
    out, params = shapes(layers.SeparableConv(5, 7))
    assert out == (2, 2, 8, 8, 5)
    norm = {"norm/scale": (3,), "norm/offset": (3,)}
    assert params == {"depthwise": (7, 7, 1, 3), "pointwise": (1, 1, 3, 5), **norm}


def test_units_are_bn_relu_convolution():
    x = random(0, 1, 2, 4, 4, 2)
    norm = {"scale": random(3, 2), "offset": random(4, 2)}
    normal = np.maximum(apply(layers.BatchNorm(), {"params": norm}, x), 0)
    kernel, per_channel = random(1, 1, 1, 2, 3), random(2, 3, 3, 1, 2)

    out = apply(layers.Conv(3, (1, 1)), {"params": {"kernel": kernel, "norm": norm}}, x)
    expected = normal @ kernel[0, 0]
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)

    params = {"depthwise": per_channel, "pointwise": kernel, "norm": norm}
    out = apply(layers.SeparableConv(3, 3), {"params": params}, x)
    expected = np.asarray(kernels.depthwise(normal[0], per_channel)) @ kernel[0, 0]
    np.testing.assert_allclose(out[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("statistics", ["batch", "running"])
def test_projection_is_the_unit_on_the_concat(statistics):
    """Parts of 2 and 3 channels, one shared by both groups; the mean comes after, not before."""
    parts = [random(0, 1, 2, 4, 4, 2), random(1, 2, 2, 4, 4, 3)]
    whole = np.concatenate([np.concatenate([parts[0]] * 2), parts[1]], -1)
    norm = functools.partial(layers.BatchNorm, statistics)
    params = {
        "kernel": random(2, 1, 1, 5, 3),
        "norm": {"scale": random(3, 5), "offset": random(4, 5)},
    }
    variables = {"params": params}
    if statistics == "running":
        variables["batch_stats"] = {"norm": {"mean": np.zeros(5), "var": np.ones(5)}}
    unit, project = layers.Conv(3, (1, 1), norm), layers.Projection(3, 1, norm)
    expected, kept = apply(unit, variables, whole, mutable="batch_stats")
    inputs = jax.jit(lambda parts: [(part, kernels.moments(part)) for part in parts])(parts)
    out, updated = apply(project, variables, inputs, mutable="batch_stats")
    np.testing.assert_allclose(out, kernels.halve(expected), rtol=1e-5, atol=1e-5)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), updated, kept)


def test_pointwise_of_concat_as_lax_would():
    parts, kernel = [random(0, 1, 2, 4, 4, 2), random(1, 2, 2, 4, 4, 3)], random(2, 5, 3)

    def concat(parts, kernel):
        return jnp.concatenate([jnp.concatenate([parts[0]] * 2), parts[1]], -1) @ kernel

    assert_same(kernels.pointwise_of_concat, concat, parts, kernel)


@pytest.mark.parametrize(("stride", "size"), [(1, 8), (2, 4)])
def test_stem(stride, size):
    out, params = shapes(layers.Stem(6, stride))
    assert out == (2, 2, size, size, 6)
    assert params == {"kernel": (3, 3, 3, 6)}
