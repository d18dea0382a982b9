"""The page docs/howto/spaces.md: its code runs, and prints what it says."""

import re
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import pytest

from nas_jax import plugins, spaces
from nas_jax.costs import params_flops, scaling
from nas_jax.nn import init
from tests import trainings
from tests.configs import tiny

PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "spaces.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
SIZE = {"image_size": 28, "num_classes": 7, "channels": 1}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """What the page defines; its code is a file, as a user's would be."""
    path = tmp_path_factory.mktemp("guide") / "guide.py"
    path.write_text("\n".join(BLOCKS[:-1]))
    return path


def defined(page, name):
    return plugins.resolve("page", f"{page}:{name}", {}, "pages")


def test_the_chain(page):
    mobile = defined(page, "mobile")
    assert mobile.count() == 3**4
    assert mobile.choices[0].name == "layer0"
    text = "mb3_k3|identity|mb6_k5|mb3_k3"
    assert mobile.to_str(mobile.from_str(text)) == text


def test_the_squeeze_counts_at_one_place(page):
    """On 28x28 grey pixels with F = 8: by hand."""
    excited = defined(page, "excited")
    found = params_flops.per_option(excited, filters=8, **SIZE)
    assert found["layer0"].params.tolist() == [0, 9 * 8 * 8 + 2 * 8 + (8 * 2 + 2) + (2 * 8 + 8)]
    assert found["layer0"].flops.tolist() == [0, 28 * 28 * 9 * 8 * 8 + 2 * (8 * 2)]
    # It takes no stride: a strided 1x1 convolution comes before it, to 14x14 with 16 channels.
    first = 14 * 14 * 8 * 16
    assert found["layer1"].flops.tolist() == [first, first + 14 * 14 * 9 * 16 * 16 + 2 * 16 * 4]
    assert found[None].flops == 28 * 28 * 9 * 8 + 16 * 7


def test_scaling_is_exact_where_ops_round_their_widths(page):
    """features // 4 is no polynomial of F."""
    excited = defined(page, "excited")
    text = "SqueezeExcite|SqueezeExcite"
    [found] = scaling.fit(excited, text, max_params=20_000, **SIZE)
    arch = excited.from_str(text)
    exact, wider = (
        params_flops.of(excited, arch, filters=found.filters + more, **SIZE) for more in (0, 1)
    )
    assert (found.params, found.flops) == exact
    assert exact.params <= 20_000 < wider.params


def test_layers_of_flax_are_initialised_by_themselves(page):
    """Kernels of `kernel_init` have its variance; a plain layer has what it alone would have."""
    excited = defined(page, "excited")
    net = excited.supernet(num_classes=7, filters=64)
    images = np.zeros((1, 8, 8, 1), np.float32)
    ours = init.init(jax.random.key(3), net, images, excited.all_on())["params"]["layer0"]["1"]
    theirs = jax.jit(net.init)(jax.random.key(3), images, excited.all_on())["params"]["layer0"]["1"]
    for name in ("Dense_0", "Dense_1"):
        np.testing.assert_array_equal(ours[name]["kernel"], theirs[name]["kernel"])
    lecun = np.sqrt(1 / 64)  # of nn.Dense, cut off at two standard deviations
    assert abs(np.std(ours["Dense_0"]["kernel"]) / lecun - 1) < 0.1
    he = np.sqrt(2 / (9 * 64))
    assert abs(np.std(ours["Conv_0"]["kernel"]) / he - 1) < 0.02


def test_networks_begin_alone_as_in_their_supernet(page):
    excited = defined(page, "excited")
    images, options = np.zeros((1, 8, 8, 1), np.float32), {"num_classes": 7, "filters": 8}
    draw = init.StandaloneInit(excited.supernet(**options), images)
    text = "identity|SqueezeExcite"
    within = draw(jax.random.key(1), excited.from_str(text))["params"]
    alone = init.init(jax.random.key(1), excited.standalone(text, **options), images)["params"]
    jax.tree.map(np.testing.assert_array_equal, excited.subnet(within, text), alone)
    assert not np.any(within["layer0"]["1"]["Dense_0"]["kernel"])  # no network has it


def test_the_space_has_strings_and_keeps_the_rules(page):
    space = spaces.make(f"{page}:Blocks", depth=1)
    assert space.count() == 3 + 3
    assert space.to_str(space.all_on()) == "conv1,conv3,conv5"
    report = spaces.check(space)
    assert not report.broken
    shown = re.search(r"```\n(holds.*?)\n```", PAGE, re.DOTALL)[1].splitlines()
    assert [line for line in shown if line not in str(report).splitlines()] == [".."]


def test_a_run_takes_it(page, tmp_path):
    config = tiny.get_config()
    config.space.name = f"{page}:Blocks"
    assert trainings.build(config)[1] == spaces.make(f"{page}:Blocks")


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (lambda: nn.BatchNorm(use_running_average=False), "BatchNorm: use the op's `norm`"),
        (lambda: nn.Dropout(0.5, deterministic=False), "Dropout: leave it out"),
    ],
)
def test_what_an_op_may_not_have(layer, message):
    class Op(nn.Module):
        features: int

        @nn.compact
        def __call__(self, x):
            return layer()(nn.Dense(self.features)(x))

    space = spaces.chain(stages=(1,), ops=("identity", Op))
    net = space.supernet(num_classes=7, filters=4)
    images = np.zeros((1, 8, 8, 1), np.float32)
    for build in (
        lambda: init.init(jax.random.key(0), net, images, space.all_on()),
        lambda: params_flops.of(space, space.all_on()),
    ):
        with pytest.raises(ValueError, match=f"layer0/1/.* is a flax.linen.{message}") as refused:
            build()
        assert "\n" not in str(refused.value)
