"""The counter of compiled programs against XLA's own, and against text worked by hand."""

import jax
import jax.numpy as jnp
import pytest

from nas_jax.aot import counts, hlo
from nas_jax.aot.counts import Taken

IMAGES, KERNEL = jnp.zeros((4, 17, 17, 8)), jnp.zeros((5, 5, 8, 12))
DEPTHWISE = jnp.zeros((3, 3, 1, 8))


def conv(x, kernel, stride=2, groups=1):
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def compiled(function, *given):
    return jax.jit(function).lower(*given).compile()


@pytest.mark.parametrize(
    "function",
    [
        conv,
        jax.grad(lambda x, kernel: conv(x, kernel).sum()),
        jax.grad(lambda x, kernel: conv(x, kernel).sum(), 1),
        lambda x, kernel: jnp.einsum("bhwc,hwcd->bd", x[:, :5, :5], kernel),
    ],
)
def test_counts_of_a_product_are_those_of_xla(function):
    program = compiled(function, IMAGES, KERNEL)
    ours, theirs = counts.of_text(program.as_text()), program.cost_analysis()
    assert ours.flops == theirs["flops"] > 0
    assert ours.bytes == theirs["bytes accessed"] > 0


def test_a_depthwise_convolution_counts_each_channel_once():
    program = compiled(lambda x, kernel: conv(x, kernel, 1, 8), IMAGES, DEPTHWISE)
    # Of 3 taps in a row of 17, two places at the border lack one: 3 * 17 - 2.
    assert counts.of_text(program.as_text()).flops == 2 * 49 * 49 * 4 * 8


def test_a_loop_counts_its_body_times_its_trips():
    def power(x):
        return jax.lax.scan(lambda c, _: (c @ c, None), x, None, length=7)[0]

    counted = counts.of_text(compiled(power, jnp.zeros((64, 64))).as_text())
    assert counted.flops == 7 * 2 * 64**3
    assert not counted.unknown_loops


def test_a_loop_of_unknown_length_is_named():
    def until(x):
        return jax.lax.while_loop(lambda c: jnp.sum(c) < 1e6, lambda c: c @ c, x)

    counted = counts.of_text(compiled(until, jnp.zeros((64, 64))).as_text())
    assert (counted.flops, counted.unknown_loops) == (2 * 64**3, 1)


def test_branches_count_by_their_shares():
    def either(which, x):
        return jax.lax.cond(which, lambda x: x @ x, lambda x: x + 1, x)

    text = compiled(either, True, jnp.zeros((64, 64))).as_text()
    product = 2 * 64**3
    assert counts.of_text(text).flops == product  # the largest
    for share in (0.25, 0):
        assert counts.of_text(text, Taken({2: (1 - share, share)})).flops == share * product


def test_a_loop_over_options_counts_as_many_as_are_on():
    """One of two products in each trip, of which the second is four times the first."""

    def summed(how_many, order, x):
        branches = [lambda x: x[:32] @ x, lambda x: (x @ x @ x)[:32]]
        return jax.lax.fori_loop(
            0, how_many, lambda i, y: y + jax.lax.switch(order[i], branches, x), x[:32]
        )

    text = compiled(summed, 3, jnp.asarray([0, 1, 0]), jnp.zeros((64, 64))).as_text()
    once = counts.of_text(text)
    assert (once.flops, once.unknown_loops) == (2 * 2 * 64**3, 1)
    taken = counts.of_text(text, Taken({2: (0.5, 0.5)}, {2: 1.75}))
    assert (taken.flops, taken.unknown_loops) == (1.75 * (64**3 + 4 * 64**3) / 2, 0)


def test_a_mean_over_devices_is_a_collective():
    mean = jax.pmap(lambda x: jax.lax.pmean(x, "i"), "i")
    text = mean.lower(jnp.zeros((8, 1000))).compile().as_text()
    assert counts.of_text(text).collectives == {"all-reduce": (1, 4000)}


# What a TPU's compiler writes: tiles, and the fast memory S(1).
TPU = """
HloModule m

%fused (p0: bf16[100,16], p1: f32[7,16]) -> bf16[100,16] {
  %p0 = bf16[100,16]{1,0:T(8,128)(2,1)} parameter(0)
  %p1 = f32[7,16]{1,0:T(8,128)} parameter(1)
  %slice.1 = f32[1,16]{1,0:T(1,128)} slice(%p1), slice={[2:3], [0:16]}
  ROOT %out = bf16[100,16]{1,0:T(8,128)(2,1)} add(%p0, %slice.1)
}

ENTRY %main (a: bf16[100,16], b: f32[7,16]) -> bf16[100,16] {
  %a = bf16[100,16]{1,0:T(8,128)(2,1)} parameter(0)
  %b = f32[7,16]{1,0:T(8,128)} parameter(1)
  %start = (f32[7,16]{1,0:T(8,128)S(1)}, f32[7,16]{1,0:T(8,128)}, u32[]{:S(2)}) copy-start(%b)
  %done = f32[7,16]{1,0:T(8,128)S(1)} copy-done(%start)
  %near = bf16[100,16]{1,0:T(8,128)(2,1)S(1)} fusion(%a, %done), calls=%fused, CYCLES="300"
  ROOT %far = bf16[100,16]{1,0:T(8,128)(2,1)} fusion(%near, /*index=1*/%b), calls=%fused, CYCLES="9"
}
""".replace("CYCLES=", 'backend_config={"window_config":{},"estimated_cycles":')


def test_padding_moves_and_fast_memory_does_not():
    counted = counts.of_text(TPU)
    image = 104 * 128 * 2  # bf16 [100, 16] in tiles of 8 x 128
    copied = 8 * 128 * 4  # f32 [7, 16], from the large memory into the fast one
    row = 128 * 4  # all that the second fusion takes of b
    assert counted.bytes == copied + image + (image + row)
    assert counted.cycles == 309


def test_arrays_and_names_are_read():
    main = hlo.parse(TPU).computations["main"]
    near, start = main.instructions["near"], main.instructions["start"]
    assert near.called("calls") == ("fused",)
    assert near.operands == ("a", "done")
    assert [(a.dtype, a.shape, a.space) for a in start.arrays] == [
        ("f32", (7, 16), 1),
        ("f32", (7, 16), 0),
        ("u32", (), 2),
    ]
    assert main.root.name == "far"


def test_a_collective_gives_what_lies_in_fast_memory_too():
    far, near = "bf16[100,16]{1,0:T(8,128)(2,1)}", "bf16[100,16]{1,0:T(8,128)(2,1)S(1)}"
    row = "f32[7,16]{1,0:T(8,128)S(1)}"
    text = f"""{TPU[: TPU.index("  %near")]}
  %sum.0 = ({far}, {row}, {near}, {row}) all-reduce-start(%a, %done), to_apply=%add
  ROOT %sum = ({near}, {row}) all-reduce-done(%sum.0)
}}
"""
    counted = counts.of_text(text)
    image, padded = 104 * 128 * 2, 8 * 128 * 4
    assert counted.collectives == {"all-reduce": (1, image + padded)}
    assert counted.bytes == padded + image  # the copy of b, and a


def cudnn(name, operands, result):
    return f"""
ENTRY %main (a: f32[4,17,17,8], b: f32[5,5,8,12], c: f32[4,9,9,12]) -> f32[4] {{
  %image = f32[4,17,17,8]{{3,2,1,0}} parameter(0)
  %kernel = f32[5,5,8,12]{{3,2,1,0}} parameter(1)
  %out = f32[4,9,9,12]{{3,2,1,0}} parameter(2)
  ROOT %r = ({result}, u8[99]{{0}}) custom-call({operands}), {WINDOW}, custom_call_target="{name}"
}}
"""


WINDOW = "window={size=5x5 pad=2_2x2_2 stride=2x2}, dim_labels=b01f_01io->b01f"


@pytest.mark.parametrize(
    ("name", "operands", "result"),
    [
        ("__cudnn$convForward", "%image, %kernel", "f32[4,9,9,12]{3,2,1,0}"),
        ("__cudnn$convBackwardInput", "%out, %kernel", "f32[4,17,17,8]{3,2,1,0}"),
        ("__cudnn$convBackwardFilter", "%image, %out", "f32[5,5,8,12]{3,2,1,0}"),
    ],
)
def test_the_three_convolutions_of_cudnn_take_equally_many(name, operands, result):
    # Nine places of 5 taps, of which the first and the last lack two: 41 pairs in each direction.
    assert counts.of_text(cudnn(name, operands, result)).flops == 2 * 41 * 41 * 4 * 8 * 12


def test_other_text_is_refused():
    with pytest.raises(ValueError, match="no HLO text"):
        counts.of_text("module @jit_f { }")
