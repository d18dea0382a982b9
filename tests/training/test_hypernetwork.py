"""The light form of SMASH: kernels of a basis, and a one-shot model trained through them."""

import math

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nas_jax import spaces
from nas_jax.nn import layers, masked
from nas_jax.spaces import params as params_lib
from nas_jax.training import variants
from tests import trainings
from tests.configs import tiny

pytestmark = pytest.mark.system

SPACE = spaces.make("nasbench_macro", stages=(1, 2), head=2)
OPTIONS = (("hidden", 8), ("basis", 3))


def _wrapped(**options):
    net = SPACE.supernet(num_classes=10, filters=4, **options)
    return variants.make("smash", SPACE, OPTIONS).wrap(net)


@pytest.fixture(scope="module")
def made():
    """(images [8, 8, 8, 3], variables, four architectures)."""
    images = jax.random.normal(jax.random.key(0), (8, 8, 8, 3))
    variables = masked.init(jax.random.key(1), _wrapped(), images[:1], SPACE.all_on())
    return images, variables, SPACE.from_strs(["012", "120", "201", "222"])


def _of(archs, g):
    return jax.tree.map(lambda mask: mask[g], archs)


def test_parameters_are_counted_by_hand(made):
    """Only what is generated is larger than in the one-shot model, and only by its basis."""
    _, variables, _ = made
    params = flax.traverse_util.flatten_dict(variables["params"])
    plain = params_lib.param_shapes(SPACE, 4, 10)
    generated = {p: s for p, s in plain.items() if len(s) == 4 and s[:2] == (1, 1)}
    # three layers of two blocks of two 1x1 kernels, two strided identities, and the head
    assert len(generated) == 3 * 2 * 2 + 2 + 1
    for path, shape in plain.items():
        expected = (3, *shape) if path in generated else shape
        assert params["net", *path].shape == expected
    own = {path: leaf.shape for path, leaf in params.items() if path[0] != "net"}
    assert own == {
        ("hidden", "kernel"): (9, 8),  # three Choices of three
        ("hidden", "bias"): (8,),
        ("codes", "kernel"): (8, 2 * len(generated)),  # the first of three is fixed
        ("codes", "bias"): (2 * len(generated),),
    }


def _codes(params, archs):
    """By hand: [4, N, 3]; biases are zero at first."""
    x = np.concatenate([np.where(mask, 1, -1) for mask in archs], -1)
    x = np.maximum(x @ params["hidden"]["kernel"], 0) @ params["codes"]["kernel"]
    x = np.asarray(x).reshape(4, -1, 2)
    codes = np.concatenate([np.ones_like(x[..., :1]), x], -1)
    return codes / np.linalg.norm(codes, axis=-1, keepdims=True)


def _generated(params, code):
    """The supernet's parameters with the kernels of a code."""
    flat = _wrapped().whole(flax.traverse_util.flatten_dict(params), code, 3)
    return flax.traverse_util.unflatten_dict(flat)


def test_it_is_the_one_shot_model_with_the_kernels_of_a_code(made):
    images, variables, archs = made
    params = variables["params"]
    wrapped = jax.jit(_wrapped().apply)
    plain = jax.jit(SPACE.supernet(num_classes=10, filters=4).apply)
    for g, code in enumerate(_codes(params, archs)):
        own = {"params": _generated(params["net"], code)}
        ours, theirs = wrapped(variables, images, _of(archs, g)), plain(own, images, _of(archs, g))
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_kernels_are_sums_of_their_basis_and_differ_between_architectures(made):
    """And are about as large as the one-shot model's at first."""
    _, variables, archs = made
    net, codes = _wrapped(), _codes(variables["params"], archs)
    params, path = variables["params"]["net"], ("layer1", "2", "expand", "kernel")
    number = net.generated(3).index(path)
    basis = flax.traverse_util.flatten_dict(params)[path]
    kernels = []
    for code in codes:
        found = _generated(params, code)
        kernel = flax.traverse_util.flatten_dict(found)[path]
        by_hand = sum(c * np.asarray(b) for c, b in zip(code[number], basis))
        np.testing.assert_allclose(kernel, by_hand, rtol=1e-5, atol=1e-6)
        kernels.append(np.asarray(kernel))
        unchanged = found["layer1"]["2"]["depthwise"]["depthwise"]
        assert unchanged is params["layer1"]["2"]["depthwise"]["depthwise"]
    gaps = [np.abs(a - b).max() for i, a in enumerate(kernels) for b in kernels[:i]]
    assert min(gaps) > 0.01
    expected = math.sqrt(2 / basis.shape[-2])
    assert np.std(kernels) == pytest.approx(expected, rel=0.5)


def test_own_initialisation_has_the_same_standard_deviations(made):
    images, variables, _ = made
    other = jax.jit(_wrapped().init)(jax.random.key(3), images[:1], SPACE.all_on())
    for ours, theirs in zip(jax.tree.leaves(variables), jax.tree.leaves(other), strict=True):
        assert ours.shape == theirs.shape
        if ours.size > 300:
            assert float(np.std(ours)) == pytest.approx(float(np.std(theirs)), rel=0.2)


@pytest.mark.parametrize("execution", ["masked", "dispatch"])
def test_groups_together_equal_one_after_the_other(made, execution):
    """Whatever the execution, on images of their own and on the same ones."""
    images, variables, archs = made
    together = jax.jit(_wrapped(execution=execution).apply)
    one = _wrapped(execution="switch")
    own = images.reshape(4, 2, *images.shape[1:])
    apply = jax.jit(one.apply)
    alone = [apply(variables, own[g], _of(archs, g)) for g in range(4)]
    np.testing.assert_allclose(
        together(variables, own, archs), jnp.stack(alone), rtol=1e-4, atol=1e-5
    )
    alone = [apply(variables, own[0], _of(archs, g)) for g in range(4)]
    np.testing.assert_allclose(
        together(variables, own[:1], archs), jnp.stack(alone), rtol=1e-4, atol=1e-5
    )


def test_one_at_a_time_refuses_several(made):
    images, variables, archs = made
    with pytest.raises(ValueError, match="one group at a time, not 4"):
        _wrapped(execution="switch").apply(variables, images, archs)


def test_gradients_reach_the_hypernetwork_and_only_what_is_used(made):
    """Architecture 012: the first block of layer 1, the second of layer 2, no block of layer 0."""
    images, variables, _ = made
    net = _wrapped()

    def loss(params):
        return jnp.sum(jnp.square(net.apply({"params": params}, images, SPACE.from_str("012"))))

    grads = jax.jit(jax.grad(loss))(variables["params"])
    moved = {
        path: bool(np.any(leaf)) for path, leaf in flax.traverse_util.flatten_dict(grads).items()
    }
    assert moved["hidden", "kernel"]
    assert moved["codes", "kernel"]
    used = {("layer0", "0"), ("layer1", "1"), ("layer2", "2")}
    kernels = [
        path for path, leaf in flax.traverse_util.flatten_dict(grads).items() if leaf.ndim > 2
    ]
    for path in kernels:
        is_shared = path[1] in ("stem", "head")
        assert moved[path] == (is_shared or path[1:3] in used), path
    usage = SPACE.usage(variables["params"], SPACE.from_str("012"))
    usage = flax.traverse_util.flatten_dict(usage)
    assert all(float(usage[path]) == float(moved[path]) for path in kernels)


def _search():
    fields = {
        "supernet.train.num_steps": 20,
        "supernet.sampler": "single_path",
        "supernet.variant": "smash",
        "supernet.variant_options": OPTIONS,
        "sweep.num_candidates": 8,
    }
    return trainings.built_with(tiny.get_config(), trainings.SMALL | fields)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    directory = tmp_path_factory.mktemp("smash")
    return directory, *trainings.fit(_search(), directory)


def test_candidates_are_ranked_with_generated_weights(trained):
    """The sweep's scores are the accuracies of the kernels that are generated for each."""
    directory, state, _ = trained
    config, space, data = _search()
    rows = trainings.swept(config, space, data, directory)
    assert len(rows) == 8
    net = trainings.run_of(config, space, data, directory).supernet()
    images, labels = data.fixed("valid", 128)
    images = (images / 255 - data.mean) / data.std
    arch = space.from_str(rows[0]["arch"])
    apply = jax.jit(net.apply)
    logits = [apply({"params": state.params}, images[i : i + 64], arch) for i in (0, 64)]
    right = np.mean(np.argmax(np.concatenate(logits), -1) == labels)
    assert rows[0]["value"] == pytest.approx(right, abs=1 / 128)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"supernet.variant_options": (("basis", 1),)},
            "basis=1 must be 0, the published form, or 2 or more",
        ),
        (
            {"sweep.bn": "running", "supernet.variant_options": OPTIONS},
            r"sweep\.bn='running', but supernet\.variant='smash' takes the",
        ),
    ],
)
def test_what_cannot_be_is_said(fields, message):
    fields |= {"supernet.variant": "smash", "sweep.calibration_images": 128}
    with pytest.raises(ValueError, match=message):
        trainings.built_with(tiny.get_config(), fields)


def test_the_standard_deviations_are_drawn_once():
    """`supernet.init` multiplies them by noise: the wrapped module must give them."""
    net = _wrapped().clone(kernel_init=layers.he_scale)
    scales = jax.jit(net.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), SPACE.all_on())
    flat = flax.traverse_util.flatten_dict(scales["params"])
    assert all(np.ptp(leaf) == 0 for path, leaf in flat.items() if leaf.ndim > 1)
