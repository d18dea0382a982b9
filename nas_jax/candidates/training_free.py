"""The evaluator that ranks candidates by a training-free proxy (`nas_jax.proxies`)."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from nas_jax import naming, plugins
from nas_jax.data import augment
from nas_jax.nn import kernels, masked
from nas_jax.proxies import PROXIES, Batches, of_each
from nas_jax.run import Run
from nas_jax.runtime import distributed, rng
from nas_jax.spaces import Space
from nas_jax.training import evaluator_names


class TrainingFree:
    """Evaluates masks [N, k]: values float [N]; N is a multiple of the number of devices.

    The networks are those of `sweep.proxy`. All candidates share initial weights, drawn
    `num_draws` times, and images of the training split. A value is the mean over the draws, NaN
    where the proxy gives none.

    Args:
      run: the run.
      name: of `PROXIES`.
      devices: None for all devices.

    Raises: ValueError as `check`; and, when it is called, if the networks do not show what the
      proxy reads.
    """

    def __init__(self, run: Run, name: str, devices: Sequence[jax.Device] | None = None):
        check(run, [name])  # that of a study's variant, or of a strategy, was not
        self._proxy, self._devices = PROXIES[name], devices and tuple(devices)
        images, labels = _batches(run, self._proxy.num_batches)
        self._net = _network(run, space_of(run))
        key = rng.named(rng.key(run.config.sweep.seed), "proxy")
        self._draws = [
            distributed.replicate(self._draw(jax.random.fold_in(key, i), images, labels), devices)
            for i in range(run.config.sweep.proxy.num_draws)
        ]

    def _draw(self, key, images, labels):
        """Draw initial variables, and what else the proxy draws."""
        weights, kernels_, others = jax.random.split(key, 3)
        net = self._net
        variables = masked.init(weights, net, images[0, :1], net.space.all_on())
        if self._proxy.weights == "normal":
            variables = _of_unit_variance(kernels_, variables)
        return variables, Batches(images, labels, others)

    def __call__(self, archs: Any) -> np.ndarray:
        """Evaluate masks [N, k]."""
        measure = _compiled(self._net, self._proxy, self._devices)
        archs = distributed.part(archs, self._devices)
        scores = [self._proxy.value(self._whole(measure(*draw, archs))) for draw in self._draws]
        score = np.mean(scores, 0)
        return np.where(np.isfinite(score), score, np.nan)

    def _whole(self, measured):
        return distributed.whole(measured, self._devices).astype(np.float64)


def check(run: Run, names: Sequence[str] | None = None) -> None:
    """Check the networks and images that proxies measure; None: those that the config evaluates by.

    Raises: ValueError if the space has no such networks, if they do not take images of that size,
      if there are too few images, or if kernels are fused.
    """
    if names is None:
        every = evaluator_names.evaluators_of(run.config.sweep)
        names = [name for name in every if name in PROXIES]
    if not names:
        return
    settings, field = run.config.sweep.proxy, "config.sweep.proxy"
    if kernels.fuses():
        raise ValueError(
            f"{names[0]!r} sees nothing in fused kernels; unset $NAS_JAX_FUSED_KERNELS"
        )
    height, width, _ = run.data.image_shape
    size = settings.image_size
    if size and (height % size or width % size):
        raise ValueError(
            f"{field}.image_size={size} does not divide images of {height}x{width} pixels; choose "
            "a divisor, or 0 for the images as they are"
        )
    space_of(run).check_image_size((size, size) if size else (height, width))
    if settings.num_images > (most := run.data.num_images("train")):
        raise ValueError(
            f"{field}.num_images={settings.num_images}, but data.train has {most} images"
        )
    for name in names:
        if settings.num_images % PROXIES[name].num_batches:
            raise ValueError(
                f"{field}.num_images={settings.num_images} does not divide into the "
                f"{PROXIES[name].num_batches} batches that {name!r} reads"
            )


def of_any_number(run: Run, name: str) -> Callable[[Any], np.ndarray]:
    """Make the evaluator of a proxy that takes any number of architectures."""
    evaluator = TrainingFree(run, name)

    def evaluate(archs):
        count = len(jax.tree.leaves(archs)[0])
        number = distributed.filled(count)
        return evaluator(jax.tree.map(lambda mask: mask[number], archs))[:count]

    return evaluate


def space_of(run: Run) -> Space:
    """Return the space of the networks that proxies measure, with the same architectures."""
    fields, field = plugins.as_tuples(run.config.sweep.proxy.space), "config.sweep.proxy.space"
    values = {each.name: getattr(run.space, each.name) for each in dataclasses.fields(run.space)}
    naming.check_options(field, type(run.space).__name__, fields, values)
    space = dataclasses.replace(run.space, **dict(fields))
    if space.choices != run.space.choices:
        raise ValueError(
            f"{field}={fields} changes what can be chosen; it may only change how many cells or "
            "stages there are"
        )
    return space


def filters_of(run: Run) -> int:
    """Return F of the networks that proxies measure."""
    return run.config.sweep.proxy.filters or run.config.supernet.filters


def _network(run, space):
    """Make the masked supernet, in float32: proxies take differences and logs."""
    options = run.network._asdict()
    executed = "switch" if run.network.execution == "switch" else "masked"
    return space.supernet(
        num_classes=run.data.num_classes,
        filters=filters_of(run),
        **{**options, "dtype": "float32", "execution": executed},
    )


def _batches(run, count):
    """Read images float32 [count, n, H, W, C], and labels, of the training split."""
    size, number = run.config.sweep.proxy.image_size, run.config.sweep.proxy.num_images
    images, labels = run.data.fixed("train", number)
    images = np.asarray(augment.standardiser(run.data)(jnp.asarray(images)))
    if size:
        images = _smaller(images, size)
    return images.reshape(count, -1, *images.shape[1:]), labels.reshape(count, -1)


def _smaller(images, size):
    """Average images [n, H, W, C] to [n, size, size, C]."""
    n, height, width, channels = images.shape
    shape = n, size, height // size, size, width // size, channels
    return images.reshape(shape).mean((2, 4))


def _of_unit_variance(key, variables):
    """Draw all kernels anew, standard normal."""
    leaves, treedef = jax.tree.flatten(variables)
    sizes = [leaf.size if leaf.ndim > 1 else 0 for leaf in leaves]
    parts = np.split(np.asarray(jax.random.normal(key, (sum(sizes),))), np.cumsum(sizes)[:-1])
    pairs = zip(leaves, parts, strict=True)
    return treedef.unflatten([x.reshape(leaf.shape) if x.size else leaf for leaf, x in pairs])


@functools.lru_cache(16)
def _compiled(net: nn.Module, proxy, devices):
    each = of_each(net, proxy)
    return distributed.pmap(each, split={"archs"}, split_out=True, devices=devices)
