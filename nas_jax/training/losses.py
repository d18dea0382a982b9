"""Losses, by `train.loss`, and weights of classes.

One of a user or a plug-in is a function (logits float32 [..., K], targets float32 [..., K]) ->
losses [...] of the images. Targets add up to 1: an image's class, mixed (`train.augment.mixup`) and
smoothed (`train.label_smoothing`). Options are its keyword-only arguments.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from nas_jax import plugins
from nas_jax.data.dataset import Data

FIELD = "train.loss"


def focal(logits: jax.Array, targets: jax.Array, *, gamma: float = 2.0) -> jax.Array:
    """Compute the focal loss (Lin et al., ICCV 2017): -sum_k t_k (1 - p_k)^gamma log p_k.

    Args:
      logits, targets: see the module.
      gamma: 0 is the cross-entropy; the larger, the less an image counts that is no longer hard.
    """
    logs = jax.nn.log_softmax(logits)
    # 1 - p is 0 where float32 rounds p to 1; its power has no gradient there.
    missing = jnp.maximum(-jnp.expm1(logs), jnp.finfo(jnp.float32).tiny)
    return -jnp.sum(targets * missing**gamma * logs, -1)


LOSSES = {"cross_entropy": optax.softmax_cross_entropy, "focal": focal}


@dataclasses.dataclass(frozen=True)
class Loss:
    """A loss with its options; equal ones share the compiled step.

    Attributes:
      name: in errors.
      function: see the module.
      options: (option, value) pairs.
      class_weights: one for each class; (): all 1.
    """

    name: str = "cross_entropy"
    function: Callable[..., jax.Array] = optax.softmax_cross_entropy
    options: tuple[tuple[str, Any], ...] = ()
    class_weights: tuple[float, ...] = ()

    def __call__(self, logits: jax.Array, classes: jax.Array, smoothing: Any) -> jax.Array:
        """Return the mean loss, float32 [], of images.

        Args:
          logits: float32 [..., K].
          classes: float32 [..., K], of each image; add up to 1.
          smoothing: float32 [], of the targets.

        Raises: ValueError if a user's or a plug-in's loss raises or has another shape.
        """
        targets = optax.smooth_labels(classes, smoothing)
        options = dict(self.options)
        losses = plugins.call(FIELD, self.name, self.function, logits, targets, **options)
        if jnp.shape(losses) != logits.shape[:-1]:
            raise ValueError(
                f"{FIELD}={self.name!r} gave losses {list(jnp.shape(losses))} for logits "
                f"{list(logits.shape)}; they must be {list(logits.shape[:-1])}, one for each image"
            )
        if self.class_weights:
            losses = losses * (classes @ jnp.asarray(self.class_weights, jnp.float32))
        return jnp.mean(losses)


CROSS_ENTROPY = Loss()


def distilled(logits: jax.Array, predictions: jax.Array) -> jax.Array:
    """Return the mean cross-entropy, float32 [], with a teacher's predictions as targets.

    They are neither smoothed nor weighted by class: they are no labels.

    Args:
      logits, predictions: float32 [..., K]; the predictions of an image add up to 1.
    """
    return jnp.mean(optax.softmax_cross_entropy(logits, predictions))


def named(train: Any) -> Loss:
    """Make the loss of a `train` section of the config, without weights of classes.

    Raises: ValueError, in one line, if there is none, or an option does not fit.
    """
    name, options = train.loss, train.loss_options
    function = plugins.maker(FIELD, name, LOSSES, "losses")
    given = plugins.options_of(FIELD, name, function, options, "train.loss_options")
    return Loss(name, function, plugins.hashable(given))


def of(train: Any, data: Data, split: str) -> Loss:
    """Make the loss of a `train` section of the config, for training on a split.

    Raises: ValueError as of `named` and `class_weights`.
    """
    return dataclasses.replace(named(train), class_weights=class_weights(train, data, split))


def check(train: Any, num_classes: int) -> None:
    """Trace the loss of a `train` section of the config; nothing is computed.

    Raises: ValueError as of `named`, or if it raises or has another shape.
    """
    logits = jax.ShapeDtypeStruct((2, num_classes), jnp.float32)
    jax.eval_shape(named(train), logits, logits, 0.0)


def class_weights(train: Any, data: Data, split: str) -> tuple[float, ...]:
    """Return the weight of each class, or () where all are 1.

    Under ("balanced",) all classes count alike: N / (K times the images of a class).

    Raises: ValueError if there is not one weight for each class; or if classes are to be balanced
      of which the split has no image.
    """
    weights = tuple(train.class_weights)
    if weights == ("balanced",):
        counts = data.class_counts(split)
        if not counts.all():
            missing = data.class_names[int(np.argmin(counts))]
            raise ValueError(
                f"train.class_weights={weights}, but {split} has no image of class {missing!r}; "
                "give a weight for each class"
            )
        return tuple((counts.sum() / (len(counts) * counts)).tolist())
    if weights and len(weights) != data.num_classes:
        raise ValueError(
            f"train.class_weights={weights} must be {data.num_classes} numbers, one for each class"
        )
    return weights
