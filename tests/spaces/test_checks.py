"""What `spaces.check` finds, by spaces that break one rule each; how multiply-adds are counted."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nas_jax import spaces
from nas_jax.nn import layers, masked, network
from nas_jax.spaces import base, checks, multiply_adds, ops
from nas_jax.spaces.choices import Choice


class Net(network.Network):
    """A stem and a mixed op of two 1x1 convolutions."""

    def ops(self, name):
        """Return the builders of the ops."""
        return [functools.partial(layers.Conv, self.filters, (1, 1), **self.unit)] * 2

    @nn.compact
    def __call__(self, images, arch=None):
        """Map images to logits."""
        images, masks, leading = masked.to_groups(images.astype(self.dtype), arch)
        x = layers.Stem(self.filters, 1, self.kernel_init, name="stem")(images)
        for i, choice in enumerate(self.space.choices):
            x = self.block(choice, self.on[i], x, None if masks is None else masks[i])
        return self.logits(x).reshape(*leading, -1)

    def block(self, choice, on, x, mask):
        """Map x to the sum of the ops that are on."""
        op = masked.MixedOp(self.ops(choice.name), on, self.execution, name=choice.name)
        return op(x, mask)


@dataclasses.dataclass(frozen=True)
class Good(base.Space):
    """One Choice of two."""

    net = Net

    @property
    def choices(self):
        """One of two ops."""
        return (Choice("op", 2, 1, 2),)

    def network(self, *, num_classes, filters, arch, **options):
        """Make the module."""
        return self.net(self, num_classes, filters, arch, **options)


def space(name="Broken", net=Net, **members):
    made = type(name, (Good,), {"net": net, **members})
    return dataclasses.dataclass(frozen=True)(made)()


class Outside(Net):
    """The second option's parameters are in the scope of none."""

    def block(self, choice, on, x, mask):
        """Multiply by the mask beside the mixed op."""
        extra = layers.Conv(self.filters, (1, 1), **self.unit, name="extra")
        y = super().block(choice, on, x, mask)
        if mask is None:
            return y + extra(x) if 1 in on else y
        return y + extra(x) * mask[:, 1].reshape(-1, 1, 1, 1, 1)


class Leaky(Net):
    """A mask scales an op before its batch norm's offset: not the network alone."""

    def block(self, choice, on, x, mask):
        """Multiply what enters by the mask of the first option."""
        if mask is not None:
            x = x * (1 + mask[:, 0].reshape(-1, 1, 1, 1, 1))
        return super().block(choice, on, x, mask) + x


class Frozen(Net):
    """As the network alone, but without its gradient."""

    def block(self, choice, on, x, mask):
        """Stop the gradient under masks."""
        y = super().block(choice, on, x, mask)
        return y if mask is None else jax.lax.stop_gradient(y)


class Looking(Net):
    """Python looks at a mask, so each architecture needs a program."""

    def block(self, choice, on, x, mask):
        """Branch on the mask."""
        if mask is not None and mask[0, 0] > 0:
            x = x + 0
        return super().block(choice, on, x, mask)


class Sized(Net):
    """A kernel as large as the image."""

    def block(self, choice, on, x, mask):
        """Scale each column."""
        scale = self.param("columns", nn.initializers.ones, (x.shape[3], 1))
        return super().block(choice, on, x * scale, mask)


class Wide(Net):
    """Logits of another shape."""

    def __call__(self, images, arch=None):
        """Return twice the logits."""
        return jnp.concatenate([super().__call__(images, arch)] * 2, -1)


@pytest.mark.parametrize(
    ("broken", "rule", "problem"),
    [
        (
            space(choices=property(lambda _: (Choice("op", 2, 1, 1), Choice("op", 2, 1, 1)))),
            "Choices have names",
            "several Choices are called 'op'",
        ),
        (space(choices=property(lambda _: ())), "Choices have", "must be a tree of Choice records"),
        (
            space(option_names=lambda *_: ("a", "b", "c")),
            "Choices have names",
            "'op' has 2 options, but 3 names",
        ),
        (space(option_names=lambda *_: ("a", "b|c")), "Choices have names", "an option 'b|c'"),
        (space(__eq__=lambda *_: False), "equal spaces", "make it a frozen dataclass"),
        (space(net=Wide), "the supernet maps", "logits are float32 (8, 6), not float32 (8, 3)"),
        (space(to_str=lambda *_: "x"), "strings are read", "'x' is none of its options"),
        (space(net=Outside), "parameters of an option", "extra/kernel, of the supernet, is not in"),
        (space(net=Leaky), "a masked network is", "of its network alone"),
        (space(net=Looking), "the supernet maps", "TracerBoolConversionError: "),
        (space(net=Frozen), "so are their gradients", "the gradient of "),
        (space(net=Sized), "parameters do not depend", "columns depends on the size of images"),
    ],
)
def test_a_broken_rule_is_found_in_words(broken, rule, problem):
    found = {finding.rule: finding.problem for finding in checks.check(broken).broken}
    [text] = [text for name, text in found.items() if name.startswith(rule)]
    assert problem in text
    assert "\n" not in text


def test_what_holds_and_how_it_reads():
    report = spaces.check(space(net=Net))
    assert report.broken == ()
    lines = str(report).splitlines()
    assert len(lines) == len(report.findings) == 12
    assert all(line.startswith("holds   ") for line in lines)
    broken = checks.Report((checks.Finding("a rule", "what breaks it"),))
    assert str(broken) == "BROKEN  a rule: what breaks it"


def test_a_space_of_choices_and_a_network_has_the_rest():
    good = Good()
    assert good.option_names(good.choices[0]) == ("0", "1")
    assert [good.to_str(arch) for arch in (good.from_str("0"), good.all_on())] == ["0", "0,1"]
    assert good.count() == 3
    assert good.reduction is None
    good.check_image_size((7, 5))
    for text, message in (
        ("0|1", r"has 2 Choices, parted by '\|'; the space has 1"),
        ("2", r"'2' is none of its options \(0, 1\)"),
        ("1,0", "not canonical: '0,1' is"),
    ):
        with pytest.raises(ValueError, match=message):
            good.from_str(text)


def test_images_that_the_network_does_not_take_are_refused():
    class Halving(Net):
        def block(self, choice, on, x, mask):
            groups, count, height, width, channels = x.shape
            x = x.reshape(groups, count, height // 2, 2, width // 2, 2, channels).mean((3, 5))
            return super().block(choice, on, x, mask)

    space(net=Halving).check_image_size((8, 6))
    with pytest.raises(
        ValueError, match=r"images of 8x5 pixels .*Broken does not take them: "
    ) as no:
        space(net=Halving).check_image_size((8, 5))
    assert "\n" not in str(no.value)


# -- multiply-adds of programs ---------------------------------------------------------------------

X, W = jnp.ones((3, 4)), jnp.ones((4, 5))
NOISE = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)


def count(function, params):
    """({number of a parameter: multiply-adds}, those without a kernel) of function(params, x)."""

    def program(x):
        made = [p + 0 for p in params]  # variables of the program, as initialisers make them
        return made, function(made, x)

    jaxpr = jax.make_jaxpr(program)(X)
    named = dict(zip(jaxpr.jaxpr.outvars, range(len(params))))
    tally = multiply_adds.count(jaxpr.jaxpr, named, [p.size for p in params])
    return dict(tally.of_params), tally.of_scopes.total()


def scanned(params, x):
    """Three turns with a kernel that the loop carries, then one of a slice of a stack each."""
    (_, y), _ = jax.lax.scan(lambda c, _: ((c[0], c[1] @ c[0]), None), (params[0], x), length=3)
    return jax.lax.scan(lambda y, w: (y @ w, None), y, params[1])[0]


def chosen(params, x):
    y = jax.lax.cond(x[0, 0] > 0, lambda x: x, lambda x: x @ params[0], x)
    return jax.lax.platform_dependent(y, cpu=lambda y: y @ params[0] @ params[0], default=jnp.sin)


@pytest.mark.parametrize(
    ("function", "params", "expected"),
    [
        (lambda p, x: x @ p[0], [W], ({0: 60}, 0)),
        (lambda p, x: jax.jit(lambda w: jax.checkpoint(jnp.dot)(x, w))(p[0]), [W], ({0: 60}, 0)),
        (lambda p, x: (x @ p[0]) @ p[0].T, [W], ({0: 120}, 0)),  # shared: used twice
        (lambda p, x: x @ jnp.concatenate(p, 1), [W, W[:, :2]], ({0: 60, 1: 24}, 0)),
        (lambda p, x: x @ (p[0] @ p[1]), [W, W.T], ({0: 24, 1: 24}, 0)),  # makes a kernel once
        (lambda p, x: (x @ x.T) @ x, [W], ({}, 3 * 4 * 3 + 3 * 3 * 4)),
        (lambda p, x: ops.nothing(x) @ p[0], [W], ({0: 60}, 0)),  # of what a "none" passes on
        # Without the images: of an array of the program, of one that it makes, of two of each.
        (lambda p, x: x @ (p[0] @ NOISE), [W], ({0: 3 * 4 * 2}, 0)),
        (lambda p, x: x @ (p[0] @ jnp.ones((5, 2))), [W], ({0: 3 * 4 * 2}, 0)),
        (lambda p, x: x @ jax.jit(lambda w: w @ NOISE)(p[0]), [W], ({0: 3 * 4 * 2}, 0)),
        (lambda p, x: x + jnp.sum(NOISE @ jnp.ones((2, 5))), [W], ({}, 0)),
        (lambda p, x: x @ (W @ NOISE), [W], ({}, 3 * 4 * 2)),  # of an activation and a constant
        (scanned, [jnp.ones((4, 4)), jnp.ones((2, 4, 4))], ({0: 3 * 48, 1: 2 * 48}, 0)),
        (chosen, [jnp.ones((4, 4))], ({0: 48}, 0)),
    ],
)
def test_multiply_adds_by_hand(function, params, expected):
    assert count(function, params) == expected


def test_a_convolution_by_hand():
    """3x3, stride 2, two groups: 2x2 places of 3 x 3 x 2 x 6."""
    kernel = jnp.ones((3, 3, 2, 6))

    def convolve(params, x):
        images = jnp.broadcast_to(x[:, :, None, None], (3, 4, 4, 4)).transpose(0, 2, 3, 1)
        return jax.lax.conv_general_dilated(
            images, params[0], (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=2,
        )  # fmt: skip

    assert count(convolve, [kernel]) == ({0: 3 * 2 * 2 * 3 * 3 * 2 * 6}, 0)


def test_a_loop_of_unknown_length_is_refused():
    def loop(params, x):
        return jax.lax.while_loop(lambda x: jnp.sum(x) < 9, lambda x: x @ params[0], x)

    with pytest.raises(ValueError, match=r"a 'while' computes products.* use jax.lax.scan"):
        count(loop, [jnp.ones((4, 4))])
