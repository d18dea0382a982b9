"""Source text of the networks of each space in plain Flax: the classes `Cell` and `Network`.

A writer is called (net, shapes) and returns the text and what it needs of `plain_layers`. `shapes`
are those of the arrays of the plain form, by name.
"""

import pprint
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from nas_jax.exports import plain_layers, plain_terms, renaming
from nas_jax.exports.plain_terms import NoPlainForm, Term
from nas_jax.nn.network import Network
from nas_jax.spaces import ops
from nas_jax.spaces.cell import CellSpace
from nas_jax.spaces.chains import ChainSpace
from nas_jax.spaces.nasbench201 import OPS as OPS_201
from nas_jax.spaces.nasbench201 import NasBench201Space
from nas_jax.spaces.nasbench_macro import OPS as OPS_MACRO
from nas_jax.spaces.nasbench_macro import NasBenchMacroSpace

Shapes = Mapping[str, tuple[int, ...]]


class Text(NamedTuple):
    """The text of a network.

    Attributes:
      text: of the code.
      needs: the functions and classes of `plain_layers` that it names.
    """

    text: str
    needs: frozenset[Any]


def writer(net: Network) -> Callable[[Network, Shapes], Text]:
    """Return the writer for a stand-alone network.

    Raises: NoPlainForm that says why there is none, if the space or an op that is on is not of this
      package.
    """
    space = net.space
    if type(space) not in _WRITERS:
        raise NoPlainForm(f"the space {type(space).__name__} is not of this package")
    for op in _ops_that_are_on(net):
        plain_terms.check(op)
    return _WRITERS[type(space)]


def _ops_that_are_on(net):
    space = net.space
    if isinstance(space, ChainSpace):
        return [space.ops[j] for on in net.on for j in on]
    if not isinstance(space, CellSpace):
        return []
    cells = [net.on] if space.tied else net.on
    return [space.ops[j] for cell in cells for block in cell for j in block["ops"]]


class _Writer:
    """Collects lines of code, and what they need."""

    def __init__(self, *needs):
        self.lines, self.needs = [], {plain_layers.conv, *needs}

    def add(self, line, *needs):
        self.lines.append(line)
        self.needs |= set(needs)

    def sum(self, target, terms):
        """Add an assignment of a sum of terms, on lines of their own where it is long."""
        for term in terms:
            self.needs |= set(term.needs)
        line = f"{target} = {' + '.join(term.text for term in terms)}"
        if len(line) < 90 or len(terms) == 1:
            self.lines.append(line)
            return
        rows = [f"    {'+ ' if i else ''}{term.text}" for i, term in enumerate(terms)]
        self.lines += [f"{target} = (", *rows, ")"]

    def indented(self):
        return "\n".join(f"        {line}".rstrip() for line in self.lines)

    def text(self, *classes):
        return Text("\n\n\n".join(classes), frozenset(self.needs))


_NETWORK = '''class Network(nn.Module):
    """The network; its parameters are in params.safetensors."""

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Map images uint8 [B, {height}, {width}, {channels}] to logits float32 [B, {classes}]."""
        norm = functools.partial(
            nn.BatchNorm, use_running_average=not train, momentum={momentum}, epsilon={epsilon}
        )
        x = standardise(images)
{body}
        return nn.Dense({classes}, name="classifier")(x.mean((1, 2)))'''


def _network(net, image_shape, body):
    height, width, channels = image_shape
    return _NETWORK.format(
        body=body,
        height=height,
        width=width,
        channels=channels,
        classes=net.num_classes,
        momentum=net.bn_momentum,
        epsilon=net.bn_epsilon,
    )


# -- cell -----------------------------------------------------------------------------------------

_CELL = '''class {name}(nn.Module):
    """Two projected inputs and {blocks} choice blocks; the output is a list of all tensors."""

    {field}: {kind}
    norm: Any

    @nn.compact
    def __call__(self, previous: list, before: list, height: int) -> list:
        """Map the outputs of the last two cells to this cell's, `height` pixels high."""
{body}'''


def _cell_network(net, image_shape, shapes):
    """Write a network of `CellSpace`."""
    space, lines = net.space, _Writer(plain_layers.norm_relu, plain_layers.ConcatConv)
    lines.needs.add(plain_layers.halve)
    names = ["Cell"] if space.tied else [f"Cell{i}" for i in range(space.num_cells)]
    classes = [_cell_class(net, number, name, lines) for number, name in enumerate(names)]
    table = _table(net, shapes) if net.widths else []
    stride = space.stem_stride
    for stem, target in (("stem1", "before"), ("stem2", "previous")):
        tail = f'{min(stride, 2)}, name="{stem}")(x)' if stride > 1 else f'name="{stem}")(x)'
        made = f"conv({shapes[f'params/{stem}/kernel'][-1]}, (3, 3), {tail}"
        lines.add(f"{target} = [halve({made})]" if stride == 4 else f"{target} = [{made}]")
    lines.add("height = previous[0].shape[1]")
    for i in range(space.num_cells):
        scale = 2 ** space.stage(i)
        first = f"WIDTHS[{i}]" if net.widths else net.filters * scale
        name = names[0] if space.tied else names[i]
        made = f'{name}({first}, norm, name="cell{i}")'
        high = f"height // {scale}" if scale > 1 else "height"
        lines.add(f"before, previous = previous, {made}(previous, before, {high})")
    final = shapes["params/final/conv/kernel"][-1]
    lines.add(f'x = ConcatConv({final}, norm, name="final")(previous)')
    return lines.text(*table, *classes, _network(net, image_shape, lines.indented()))


def _cell_class(net, number, name, whole):
    space, lines = net.space, _Writer()
    inputs = ["previous_cell", "cell_before"]
    field, kind = ("widths", "dict[str, int]") if net.widths else ("features", "int")

    def width(tensor):
        return f'width["{tensor}"]' if net.widths else "features"

    lines.add(f"{'width' if net.widths else 'features'}, norm = self.{field}, self.norm")
    for i, (target, source) in enumerate(zip(inputs, ("previous", "before"))):
        made = f'ConcatConv({width(f"project{i}")}, norm, name="project{i}")'
        lines.add(f"{target} = {made}({source}, height)")
    tensors = [*inputs, *(f"block{b}" for b in range(space.num_blocks))]
    blocks = zip(space.of_cell(net.on, number), space.of_cell(space.choices, number))
    for b, (on, choice) in enumerate(blocks):
        joined = ", ".join(tensors[j] for j in on["inputs"])
        inner = f"block{b}_inputs"
        lines.add(f'x = ConcatConv({width(inner)}, norm, name="{inner}")([{joined}])')
        terms = [
            _cell_term(space, choice["ops"].name, j, width, bool(net.widths)) for j in on["ops"]
        ]
        lines.sum(f"block{b}", terms)
    lines.add(f"return [{', '.join(tensors)}]")
    whole.needs |= lines.needs
    body = lines.indented()
    return _CELL.format(name=name, blocks=space.num_blocks, field=field, kind=kind, body=body)


def _cell_term(space, choice, option, width, has_widths):
    name, op = renaming.scope(space, choice, option), space.ops[option]
    if has_widths:
        channels = width(f"{name}_hidden"), width(name)
    elif op in ops.INVERTED:
        channels = f"{ops.INVERTED[op].keywords['expansion']} * features", "features"
    else:
        channels = "features", "features"
    return plain_terms.of(op, "x", name, "norm", channels)


def _table(net, shapes):
    """Write the constant WIDTHS: for each cell the channels of its tensors."""
    rows = []
    for i in range(net.space.num_cells):
        row = {}
        for name, shape in shapes.items():
            _, cell, *rest = name.split(renaming.SEPARATOR)
            if cell == f"cell{i}" and rest[-1] == "kernel" and "depthwise" not in rest:
                tensor = f"{rest[0]}_hidden" if rest[1] == "unit0" else rest[0]
                row[tensor] = shape[-1]
        rows.append(row)
    return [f"WIDTHS = {pprint.pformat(tuple(rows), sort_dicts=False)}  # channels, of each cell"]


# -- nasbench201 ----------------------------------------------------------------------------------

_CELL_201 = '''class Cell(nn.Module):
    """Four nodes, each the sum of an op of each earlier node."""

    features: int
    norm: Any

    @nn.compact
    def __call__(self, node0: jax.Array) -> jax.Array:
        """Map [B, H, W, features] -> the same shape."""
{body}
        return node3'''


def _network_201(net, image_shape, shapes):
    """Write a network of `NasBench201Space`."""
    space, cell = net.space, _Writer()
    for j, edges in enumerate(space.choices, 1):
        terms = [
            _term_201(space, choice.name, i, option)
            for i, choice in enumerate(edges)
            for option in net.on[j - 1][i]
        ]
        terms = [term for term in terms if term] or [Term("jnp.zeros_like(node0)")]
        cell.sum(f"node{j}", terms)
    lines = _Writer(plain_layers.ConvNorm, plain_layers.norm_relu, *cell.needs)
    lines.add(f'x = ConvNorm({net.filters}, (3, 3), norm, name="stem")(x)')
    for stage in range(space.num_stages):
        features = net.filters * 2**stage
        if stage:
            needs = plain_layers.halve, plain_layers.ReluConvNorm, plain_layers.Reduction
            lines.add(f'x = Reduction({features}, norm, name="stage{stage}_reduction")(x)', *needs)
        lines.add(f"for i in range({space.num_cells}):")
        lines.add(f'    x = Cell({features}, norm, name=f"stage{stage}_cell{{i}}")(x)')
    norm = 'norm(name="final")'
    lines.add(f"x = {norm}(nn.relu(x))" if net.relu_before_bn else f"x = nn.relu({norm}(x))")
    body = _CELL_201.format(body=cell.indented())
    return lines.text(body, _network(net, image_shape, lines.indented()))


def _term_201(space, choice, node, option):
    """Write an op of an edge; None for the one that gives zeros."""
    op, x = list(OPS_201)[option], f"node{node}"
    if op == "none":
        return None
    if op == "skip_connect":
        return Term(x)
    if op == "avg_pool_3x3":
        return Term(f"avg_pool({x})", (plain_layers.avg_pool,))
    kernel, name = OPS_201[op].keywords["kernel_size"], renaming.scope(space, choice, option)
    made = f'ReluConvNorm(self.features, {kernel}, self.norm, name="{name}")({x})'
    return Term(made, (plain_layers.ReluConvNorm,))


# -- chains ---------------------------------------------------------------------------------------


def _chain_network(net, image_shape, shapes):
    """Write a network of `ChainSpace` or `NasBenchMacroSpace`: a line for each layer."""
    space, lines = net.space, _Writer(plain_layers.ConvNorm, plain_layers.norm_relu)

    def features(scope):
        return shapes[f"params/{scope}/conv/kernel"][-1]

    strides = getattr(space, "stem_stride", 1)
    stride = f", strides={strides}" if strides > 1 else ""
    stem = f"ConvNorm({features('stem')}, (3, 3), norm{stride}, relu=True"
    lines.add(f'x = {stem}, name="stem")(x)')
    for i, choice in enumerate(space.choices):
        terms = [_layer_term(space, i, choice.name, j, shapes) for j in net.on[i]]
        if [term.text for term in terms] == ["x"]:
            lines.add(f"# {choice.name} is the identity")
        else:
            lines.sum("x", terms)
    if space.head:
        head = f"ConvNorm({features('head')}, (1, 1), norm, relu=True"
        lines.add(f'x = {head}, name="head")(x)')
    return lines.text(_network(net, image_shape, lines.indented()))


def _layer_term(space, layer, choice, option, shapes):
    """Write the op of a layer, perhaps of what a strided 1x1 convolution gives it."""
    op, stride, reduced = _of_layer(space, layer, option)
    name, x, needs = renaming.scope(space, choice, option), "x", ()
    if reduced:
        scope = name if type(space) is NasBenchMacroSpace else f"{name}_reduce"
        width = shapes[f"params/{scope}/conv/kernel"][-1]
        tail = f", strides={stride}" if stride > 1 else ""
        x = f'ConvNorm({width}, (1, 1), norm{tail}, name="{scope}")(x)'
        needs, stride = (plain_layers.ConvNorm,), 1
    term = plain_terms.of(op, x, name, "norm", _channels(name, shapes), stride)
    return term._replace(needs=(*term.needs, *needs))


def _of_layer(space, layer, option):
    """Return an op's name, its stride, and whether a convolution reduces before it."""
    if type(space) is NasBenchMacroSpace:
        op, reduces = list(OPS_MACRO)[option], space.reduces(layer)
        return op, 2 if reduces else 1, reduces and op == "identity"
    op = space.ops[option]
    return op, space.shapes[layer][1], space.reduces_before(layer, op)


def _channels(name, shapes):
    """Return the channels inside and after an op of a layer; None for one without layers."""
    pairs = (("expand", "project"), ("unit0", "unit1"))
    kernels = [
        shapes.get(f"params/{name}/{part}/{kind}/kernel")
        for pair in pairs
        for part in pair
        for kind in ("conv", "pointwise")
    ]
    found = [kernel[-1] for kernel in kernels if kernel]
    return tuple(found) if len(found) == 2 else (None, None)


_WRITERS = {
    CellSpace: _cell_network,
    NasBench201Space: _network_201,
    NasBenchMacroSpace: _chain_network,
    ChainSpace: _chain_network,
}
