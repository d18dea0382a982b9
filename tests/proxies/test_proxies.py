"""Proxies: masked = stand-alone, for each; numbers by hand; what is refused."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nas_jax import spaces
from nas_jax.nn import layers, masked, observed
from nas_jax.proxies import PROXIES, Batches, activations, blocks, gradients
from nas_jax.runtime import rng

SIZES = {"num_classes": 3, "filters": 2}
SPACES = {
    "nasbench201": spaces.make("nasbench201", num_cells=1, num_stages=1),
    "nasbench_macro": spaces.make("nasbench_macro", stages=(1, 1), head=2),
    "cell": spaces.make(
        "cell", num_cells=2, num_blocks=1, cells_per_stage=1, ops=("identity", "sep3x3")
    ),
}
ARCHS = {
    "nasbench201": "|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|"
    "+|skip_connect~0|avg_pool_3x3~1|none~2|",
    "nasbench_macro": "20",
    "cell": "0>identity,sep3x3",
}
OTHERS = {  # architectures of which everything differs
    "nasbench201": "|nor_conv_1x1~0|+|avg_pool_3x3~0|nor_conv_3x3~1|"
    "+|none~0|none~1|skip_connect~2|",
    "nasbench_macro": "01",
    "cell": "1>identity",
}
EVERY = [("nasbench201", "masked", proxy) for proxy in PROXIES] + [
    *(("nasbench201", "switch", proxy) for proxy in ("naswot", "zen", "snip")),
    *(("nasbench_macro", "switch", proxy) for proxy in ("naswot", "trainability")),
    *(("cell", "masked", proxy) for proxy in ("zen", "synflow")),
    *(("cell", "switch", proxy) for proxy in ("naswot", "progressivity")),
]
# ZiCo divides by differences of two gradients, some of which are hardly above rounding.
TOLERANCE = {"zico": 5e-3}


def _batches(proxy):
    images = jax.random.normal(rng.key(1), (proxy.num_batches, 4, 8, 8, 3))
    labels = jnp.tile(jnp.asarray([0, 1, 2, 0]), (proxy.num_batches, 1))
    return Batches(images, labels, rng.key(2))


@functools.cache
def _variables(name):
    net, space = SPACES[name].supernet(**SIZES), SPACES[name]
    return masked.init(rng.key(0), net, np.zeros((1, 8, 8, 3), np.float32), space.all_on())


def _alone(name, proxy):
    """Measure the stand-alone network with the supernet's weights."""
    space, text = SPACES[name], ARCHS[name]
    net = space.standalone(text, bn=proxy.bn, **SIZES)
    params = {"params": space.subnet(_variables(name)["params"], text)}
    return jax.jit(lambda b: proxy.measure(net, params, b, None))(_batches(proxy))


@pytest.mark.system
@pytest.mark.parametrize(("name", "execution", "proxy"), EVERY)
def test_an_option_that_is_off_counts_nothing(name, execution, proxy):
    """The masked supernet and the stand-alone network measure the same; others differ."""
    space, variables, proxy_ = SPACES[name], _variables(name), PROXIES[proxy]
    net = space.supernet(bn=proxy_.bn, execution=execution, **SIZES)
    measure = jax.jit(lambda b, arch: proxy_.measure(net, variables, b, arch))
    batches = _batches(proxy_)
    ours = np.asarray(measure(batches, space.from_str(ARCHS[name])))
    assert np.all(np.isfinite(ours))
    rtol = TOLERANCE.get(proxy, 1e-5)
    np.testing.assert_allclose(ours, _alone(name, proxy_), rtol=rtol, atol=1e-6)
    assert not np.allclose(ours, measure(batches, space.from_str(OTHERS[name])), rtol=2 * rtol)


# -- numbers by hand ------------------------------------------------------------------------------


class _Linear(nn.Module):
    """A network of one kernel [2, 2] with the pixels of a 1x1 image of two channels."""

    kernel: tuple = ((1.0, -2.0), (3.0, 4.0))

    @nn.compact
    def __call__(self, images, arch=None):
        """Map images [n, 1, 1, 2] to logits [n, 2]."""
        kernel = self.param("kernel", lambda key: jnp.asarray(self.kernel))
        return images[:, 0, 0] @ kernel


_PARAMS = {"params": {"kernel": jnp.asarray(_Linear.kernel)}}


def _given(*images, labels=(0,)):
    """One batch for each of `images`, [n, 2]."""
    pixels = jnp.asarray(images, jnp.float32)[:, :, None, None]
    return Batches(pixels, jnp.asarray([labels] * len(images)), rng.key(0))


def test_gradient_norm_and_snip_by_hand():
    """Logits (1, -2) of the image (1, 0), and softmax p: the gradient is (p - (1, 0)) in row 0."""
    p = 1 / (1 + math.exp(-3))
    rest = 1 - p
    norm = gradients.gradient_norm(_Linear(), _PARAMS, _given([(1, 0)]), None)
    assert float(norm) == pytest.approx(math.sqrt(2) * rest, rel=1e-5)
    snip = gradients.snip(_Linear(), _PARAMS, _given([(1, 0)]), None)
    assert float(snip) == pytest.approx(3 * rest, rel=1e-5)  # |1| and |-2| times the rest


def test_synflow_by_hand():
    """One layer on an image of ones: the sum of |weights|, 10."""
    measured = gradients.synflow(_Linear(), _PARAMS, _given([(5, 5)]), None)
    assert PROXIES["synflow"].value([measured])[0] == pytest.approx(math.log(10), abs=1e-5)


def test_zico_by_hand():
    """Weights of row 0 have the gradients -+r and -+2r of two batches, r = 1 - p of the first."""
    log_ratio = gradients._log_ratio(jnp.asarray([[[1.0, 2.0]], [[3.0, 2.0]]]))
    assert float(log_ratio) == pytest.approx(math.log(2), rel=1e-6)  # mean 2, deviation 1; left out
    assert float(gradients._log_ratio(jnp.asarray([[[5.0]], [[5.0]]]))) == 0  # a kernel left out


def test_image_gradients_by_hand():
    """The gradient of the summed logits is (-1, 7) for every image: all are wholly correlated."""
    matrix = gradients.image_gradients(_Linear(), _PARAMS, _given([(1, 0), (0, 1)]), None)
    np.testing.assert_allclose(matrix, np.ones((2, 2)), rtol=1e-5)
    small = 1e-5  # eigenvalues 2 and 0
    expected = -(math.log(2 + small) + 1 / (2 + small) + math.log(small) + 1 / small)
    assert gradients.spread(np.ones((1, 2, 2)))[0] == pytest.approx(expected, rel=1e-6)
    apart = gradients.spread(np.eye(2)[None])[0]  # eigenvalues 1 and 1
    assert apart == pytest.approx(-2, rel=1e-4)
    assert np.isnan(gradients.spread(np.full((1, 2, 2), np.nan))[0])


def test_agreement_by_hand():
    """Units on of three images: 1100, 1010, 1100."""
    outputs = jnp.asarray([[[1.0, 2, 0, 0], [3, 0, 1, 0], [1, 1, 0, 0]]])
    expected = [[4, 2, 4], [2, 4, 2], [4, 2, 4]]
    np.testing.assert_array_equal(observed._agreement(outputs)[0], expected)
    scores = activations.log_determinant([expected, [[4, 2, 2], [2, 4, 2], [2, 2, 4]]])
    assert scores[0] == -np.inf  # two images have one code
    assert scores[1] == pytest.approx(math.log(32))


def test_zen_by_hand():
    """The change of the features of ReLU-free pixels, and the batch norm's log of deviations."""

    class Doubled(nn.Module):
        @nn.compact
        def __call__(self, images, arch=None):
            x = layers.BatchNorm(name="norm")(images[None])
            observed.features(self, 2 * images[None])
            return x.mean((2, 3)).reshape(len(images), -1)

    batches = _batches(PROXIES["zen"])
    net = Doubled()
    variables = net.init(rng.key(0), batches.images[0])
    measured = activations.Zen(change=0.5)(net, variables, batches, None)
    first, second = jax.random.normal(batches.key, (2, 4, 8, 8, 3))
    change = np.abs(np.asarray(second)).sum((1, 2, 3)).mean()  # 2 * 0.5
    deviations = [np.log(np.asarray(first).var((0, 1, 2)).mean() + 1e-3) / 2]
    assert float(measured) == pytest.approx(math.log(change) + deviations[0], rel=1e-4)


def test_entropies_by_hand():
    """Two uncorrelated channels of equal variance: log 2; with one still channel: 0."""
    rows = jnp.asarray([[1.0, 1], [1, -1], [-1, 1], [-1, -1]]).reshape(4, 1, 1, 2)
    assert float(blocks._entropy(rows)) == pytest.approx(math.log(2), rel=1e-5)
    assert float(blocks._entropy(rows * jnp.asarray([1.0, 0]))) == pytest.approx(0, abs=1e-5)
    measured = [[0.1, 0.4, 0.3], [0.1, 0.2, 0.5]]
    np.testing.assert_allclose(blocks.expressivity(measured), [0.8, 0.8])
    np.testing.assert_allclose(blocks.progressivity(measured), [-0.1, 0.1])


def test_spectral_norm_by_hand():
    """A block that triples what it gets: signs s come back as 3 s, and 3 s s' / rows has norm 3."""
    signs = jnp.asarray([[1.0, 1], [1, -1], [-1, 1], [-1, -1]]).reshape(1, 4, 1, 1, 2)
    assert float(blocks._spectral_norm(3 * signs, signs)) == pytest.approx(3, rel=1e-5)
    np.testing.assert_allclose(
        blocks.trainability([[1.0, 3.0]]), [(0 + 2 - 3 - 1 / 3) / 2], rtol=1e-5
    )


def test_rows_of_a_block_that_halves_the_resolution():
    """Four pixels of an image become one row of four times the channels."""
    x = jnp.arange(16.0).reshape(1, 1, 4, 4, 1)
    expected = [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    np.testing.assert_array_equal(blocks._rows(x, 2), expected)


def test_trainability_is_that_of_each_block_alone():
    """A skip hands on what it gets, whatever the blocks around it are; a convolution does not."""
    skip = "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"
    space, proxy = SPACES["nasbench201"], PROXIES["trainability"]
    net = space.supernet(bn=proxy.bn, **SIZES)
    norms = [
        proxy.measure(net, _variables("nasbench201"), _batches(proxy), space.from_str(arch))
        for arch in (skip, ARCHS["nasbench201"])
    ]
    assert norms[0].tolist() == [np.inf]  # stem to the first cell
    assert np.all(np.isfinite(norms[1]))


# -- refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize("proxy", ["expressivity", "trainability"])
def test_a_network_without_blocks_is_refused(proxy):
    class Net(_Linear):
        space: object = SPACES["cell"]

    with pytest.raises(ValueError, match=r"show 0 blocks.*observed\.block"):
        PROXIES[proxy].measure(Net(), _PARAMS, _given([(1, 0)]), None)


class _Deep(_Linear):
    """Four layers of that kernel."""

    @nn.compact
    def __call__(self, images, arch=None):
        """Map images [n, 1, 1, 2] to logits [n, 2]."""
        kernel = self.param("kernel", lambda key: jnp.asarray(self.kernel))
        return images[:, 0, 0] @ kernel @ kernel @ kernel @ kernel


def test_a_flow_beyond_what_float32_holds_unscaled():
    """Ones times a kernel of c four times: 16 logits c^4, 4 uses of the kernel; the log is 110."""
    c = math.exp((110 - math.log(4 * 32)) / 4)
    params = {"params": {"kernel": jnp.full((2, 2), c)}}
    measured = gradients.synflow(_Deep(), params, _given([(1, 1)]), None)
    assert PROXIES["synflow"].value([measured])[0] == pytest.approx(110, rel=1e-5)


def test_a_flow_that_float32_cannot_hold_is_refused():
    params = {"params": {"kernel": jnp.full((2, 2), 1e20)}}
    measured = gradients.synflow(_Deep(), params, _given([(1, 1)]), None)
    with pytest.raises(ValueError, match=r"beyond float32; measure smaller"):
        PROXIES["synflow"].value([measured])
    nothing = {"params": {"kernel": jnp.zeros((2, 2))}}
    measured = gradients.synflow(_Deep(), nothing, _given([(1, 1)]), None)
    assert PROXIES["synflow"].value([measured]) == [-np.inf]  # no value


def test_a_block_that_hands_on_what_it_gets_trains_nothing():
    signs = jax.random.rademacher(rng.key(0), (2, 4, 4, 3), jnp.float32)
    assert blocks._spectral_norm(signs[None], signs) == np.inf
    assert blocks.trainability([[1.0, np.inf]]) == [-np.inf]
