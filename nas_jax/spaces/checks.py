"""Proofs, on a few architectures, of what must hold for a search space, in words."""

import copy
import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from nas_jax.nn import init, network
from nas_jax.runtime import rng
from nas_jax.spaces import choices as choices_lib
from nas_jax.spaces import combinations, strings
from nas_jax.spaces import params as params_lib
from nas_jax.spaces.base import Space

_TOLERANCE = (
    2e-3  # of values, relative to the largest; float32 sums in another order differ by 1e-5
)
_SIZES = ((24, 24), (28, 28), (33, 31))  # that may be refused, but then in words


class Finding(NamedTuple):
    """A rule, and what breaks it; "" if it holds."""

    rule: str
    problem: str


class Report(NamedTuple):
    """Findings, one for each rule that could be checked; `str` has a line for each."""

    findings: tuple[Finding, ...]

    @property
    def broken(self) -> tuple[Finding, ...]:
        """The rules that do not hold."""
        return tuple(finding for finding in self.findings if finding.problem)

    def __str__(self):
        return "\n".join(
            f"BROKEN  {rule}: {problem}" if problem else f"holds   {rule}"
            for rule, problem in self.findings
        )


@dataclasses.dataclass(frozen=True)
class _Subject:
    space: Space
    filters: int
    num_classes: int
    channels: int
    num_archs: int

    @property
    def options(self):
        return {"num_classes": self.num_classes, "filters": self.filters}

    @functools.cached_property
    def size(self):
        return 2 * self.space.reduction if self.space.reduction else 16

    @functools.cached_property
    def images(self):
        shape = (8, self.size, self.size, self.channels)
        return np.random.default_rng(0).normal(size=shape).astype(np.float32)

    @functools.cached_property
    def archs(self):
        drawn = self.space.sample(rng.key(0), (self.num_archs,))
        return choices_lib.unstack(jax.device_get(drawn))

    @functools.cached_property
    def texts(self):
        return [self.space.to_str(arch) for arch in self.archs]

    @functools.cached_property
    def net(self):
        return self.space.supernet(**self.options)

    @functools.cached_property
    def params(self):
        """Parameters of the supernet, batch norm's at random, too."""
        drawn = init.init(rng.key(0), self.net, self.images[:1], self.space.all_on())["params"]
        generator = np.random.default_rng(1)
        return jax.tree.map(
            lambda x: (x + 0.2 * generator.normal(size=x.shape)).astype(np.float32), drawn
        )

    @functools.cached_property
    def weights(self):
        shape = (len(self.images), self.num_classes)
        return np.random.default_rng(2).normal(size=shape).astype(np.float32)

    @functools.cached_property
    def alone(self):
        """For each architecture the function of images that its network alone is, compiled once."""

        def of(text):
            net = self.space.standalone(text, **self.options)
            own = self.space.subnet(self.params, text)
            return functools.partial(jax.jit(net.apply), {"params": own})

        return {text: of(text) for text in self.texts}


def check(
    space: Space,
    *,
    filters: int = 8,
    num_classes: int = 3,
    channels: int = 3,
    num_archs: int = 2,
) -> Report:
    """Check on a few architectures what must hold for a space; return a `Report` to print.

    It builds and compiles small networks, so it takes seconds to minutes.

    Args:
      space: the space.
      filters: F.
      num_classes: K.
      channels: of an image.
      num_archs: architectures that are drawn.
    """
    subject, findings = _Subject(space, filters, num_classes, channels, num_archs), []
    for rule, function in _RULES.items():
        problem = _problem(function, subject)
        findings.append(Finding(rule, problem))
        if problem and function in _FIRST:
            break
    return Report(tuple(findings))


def _problem(function, subject):
    try:
        return function(subject) or ""
    except Exception as error:
        what = " ".join(str(error).split()) or "no message"
        return f"{type(error).__name__}: {what:.400}"


def _check_choices(subject):
    leaves = jax.tree.leaves(subject.space.choices)
    other = [leaf for leaf in leaves if not isinstance(leaf, choices_lib.Choice)]
    if other or not leaves:
        return f"`choices` must be a tree of Choice records, one or more; it has {other[:1]}"
    again = choices_lib.repeated_names(subject.space.choices)
    if again:
        return f"several Choices are called {', '.join(map(repr, again))}"
    for choice in leaves:
        labels = subject.space.option_names(choice)
        if len(labels) != choice.num_options:
            return f"{choice.name!r} has {choice.num_options} options, but {len(labels)} names"
        if bad := [label for label in labels if set(label) & set(strings.RESERVED)]:
            return f"{choice.name!r} has an option {bad[0]!r}; names have no {strings.RESERVED}"
    return None


def _check_value(subject):
    space = subject.space
    if copy.copy(space) != space or hash(copy.copy(space)) != hash(space):
        return "a copy must be equal to it and have its hash: make it a frozen dataclass"
    return None


def _check_network(subject):
    net = subject.net
    if not isinstance(net, network.Network):
        return f"`network` returns a {type(net).__name__}, which is no nas_jax.nn.network.Network"
    out = jax.eval_shape(net.init_with_output, rng.key(0), subject.images, subject.space.all_on())
    expected = (len(subject.images), subject.num_classes)
    if out[0].shape != expected or out[0].dtype != jnp.float32:
        return f"logits are {out[0].dtype} {out[0].shape}, not float32 {expected}"
    return None


def _check_strings(subject):
    space, seen = subject.space, {}
    for arch in [
        *choices_lib.unstack(jax.device_get(space.sample(rng.key(1), (32,)))),
        space.all_on(),
    ]:
        text = space.to_str(arch)
        back = space.from_str(text)
        if any(np.any(a != b) for a, b in zip(jax.tree.leaves(arch), jax.tree.leaves(back))):
            return f"{text!r} is read as another architecture than it was written for"
        if "@" in text or len(text.splitlines()) != 1:
            return f"{text!r} has an '@', which parts widths, or is not one line"
        masks = b"".join(np.asarray(mask, bool).tobytes() for mask in jax.tree.leaves(arch))
        if seen.setdefault(text, masks) != masks:
            return f"{text!r} is the string of two architectures"
    return None


def _check_drawn(subject):
    space = subject.space
    drawn = space.sample(rng.key(2), (64,))
    changed = jax.vmap(space.mutate)(rng.each(rng.key(3), jnp.arange(64)), drawn)
    for archs in map(jax.device_get, (drawn, changed)):
        if not space.contains(archs):
            beyond = int(np.sum(~combinations.kept(space, archs)))
            return f"{beyond} of 64 do not: hardly any architecture does"
    return None


def _check_scopes(subject):
    space, whole = subject.space, subject.params
    names = {choice.name for choice in jax.tree.leaves(space.choices)}
    for text in subject.texts:
        net = space.standalone(text, **subject.options)
        built = params_lib.shapes_by_path(params_lib.params_shape(net, subject.images.shape[1:]))
        cut = params_lib.shapes_by_path(space.subnet(whole, text))
        for path in sorted(cut.keys() - built.keys()):
            return (
                f"{'/'.join(path)}, of the supernet, is not in the network of {text!r}: what "
                f"belongs to option j of a Choice has the scope <Choice's name>/<j>, where names "
                f"are {', '.join(sorted(names)[:4])}, .."
            )
        for path in sorted(built.keys() - cut.keys()):
            return f"{'/'.join(path)}, of the network of {text!r}, is not in the supernet"
        for path, shape in built.items():
            if cut[path] != shape:
                return f"{'/'.join(path)} is {shape} in the network of {text!r}, but {cut[path]}"
    return None


def _check_images(subject):
    """Compare the logits of one image among some images and among others, all paths on."""
    net = subject.space.supernet(**subject.options, bn="off")
    apply, all_on = jax.jit(net.apply), subject.space.all_on()
    others = np.concatenate([subject.images[:1], 2 * subject.images[:0:-1]])
    for scale in (1.0, 0.5, 0.25):  # without batch norm deep networks overflow
        params = {"params": jax.tree.map(functools.partial(np.multiply, scale), subject.params)}
        logits = np.asarray(apply(params, subject.images, all_on))
        if np.all(np.isfinite(logits)):
            break
    else:
        return "cannot be told: without batch norm the logits are not finite"
    if problem := _difference(logits[:1], np.asarray(apply(params, others, all_on))[:1]):
        return (
            f"without batch norm, the logits of an image among some images {problem} among others: "
            "an op mixes images (axes are [G, n, H, W, C], so a mean over pixels is over axes (2, "
            "3)), or has a batch norm that is not the network's, and does not heed bn"
        )
    return None


def _check_values(subject, execution="masked"):
    net = subject.space.supernet(**subject.options, execution=execution)
    half = len(subject.images) // 2
    apply = jax.jit(net.apply)  # one program: masks are arguments
    ring = zip(subject.texts, [*subject.texts[1:], subject.texts[0]])
    for texts in ring if execution == "masked" else zip(subject.texts):
        images = subject.images[: half * len(texts)]
        logits = apply({"params": subject.params}, images, subject.space.from_strs(texts))
        for n, text in enumerate(texts):
            part = slice(n * half, (n + 1) * half)
            expected = subject.alone[text](images[part])
            if problem := _difference(logits[part], expected):
                return f"logits of {text!r} {problem} of its network alone"
    return None


def _check_gradients(subject):
    net, space, text = subject.net, subject.space, subject.texts[0]
    net_alone = space.standalone(text, **subject.options)
    own = space.subnet(subject.params, text)

    def loss(logits):
        return jnp.sum(logits * subject.weights)

    def of(net, params, *arch):
        return loss(net.apply({"params": params}, subject.images, *arch))

    gradient = jax.jit(jax.grad(of, 1), static_argnums=0)
    whole = gradient(net, subject.params, space.from_str(text))
    alone = gradient(net_alone, own)
    found, expected = (flax.traverse_util.flatten_dict(tree) for tree in (whole, alone))
    scale = max(float(np.abs(leaf).max()) for leaf in expected.values())
    for path, leaf in found.items():
        wanted = expected.get(path, np.zeros_like(leaf))
        if problem := _difference(leaf, wanted, scale):
            return f"of {text!r}, the gradient of {'/'.join(path)} {problem} of its network alone"
    return None


def _difference(found, expected, scale=0.0):
    """Say how much an array differs from another; None if it does not."""
    if not np.all(np.isfinite(found)):
        return "is not finite, unlike that"
    most = float(np.max(np.abs(np.asarray(found) - expected)))
    scale = max(scale, float(np.max(np.abs(expected))))
    return f"differs by {most:.2g} from that" if most > _TOLERANCE * scale else None


def _check_costs(subject):
    size = {"filters": subject.filters, "num_classes": subject.num_classes}
    table = params_lib.per_option(subject.space, subject.size, **size, channels=subject.channels)
    for text, arch in zip(subject.texts, subject.archs):
        masks = zip(jax.tree.leaves(subject.space.choices), jax.tree.leaves(arch))
        params, flops = table[None] + sum(np.asarray(m, int) @ table[c.name] for c, m in masks)
        net = subject.space.standalone(text, **subject.options)
        built = params_lib.of_net(net, subject.images.shape[1:])
        own = sum(map(np.prod, built.shapes.values()))
        products = sum(built.flops.values()) + sum(built.others.values())
        for what, ours, theirs in (("parameters", params, own), ("multiply-adds", flops, products)):
            if ours != theirs:
                return (
                    f"the options of {text!r} have {ours:,} {what}, its network {theirs:,}: an "
                    "option's cost depends on another option, or is in no scope of an option"
                )
    return None


def _check_sizes(subject):
    shapes = params_lib.shapes_by_path(subject.params)
    for size in _SIZES:
        try:
            subject.space.check_image_size(size)
        except ValueError:
            continue
        net = subject.space.standalone(subject.space.all_on(), **subject.options)
        found = params_lib.shapes_by_path(params_lib.params_shape(net, (*size, subject.channels)))
        if different := [path for path in shapes if found.get(path) != shapes[path]]:
            return f"the shape of {'/'.join(different[0])} depends on the size of images"
    return None


_RULES: dict[str, Callable[[_Subject], Any]] = {
    "Choices have names of their own, options distinct ones": _check_choices,
    "equal spaces are equal values": _check_value,
    "the supernet maps images to logits": _check_network,
    "strings are read as they are written": _check_strings,
    "architectures that are drawn keep to the space's rule": _check_drawn,
    "parameters of an option are in its scope": _check_scopes,
    "images do not mix, but in batch norm": _check_images,
    "a masked network is the network alone; one program for all": _check_values,
    "so under `switch`": functools.partial(_check_values, execution="switch"),
    "so are their gradients": _check_gradients,
    "costs of options add up to the network's": _check_costs,
    "parameters do not depend on the size of images": _check_sizes,
}
_FIRST = (_check_choices, _check_value, _check_network)  # the others would fail with them
