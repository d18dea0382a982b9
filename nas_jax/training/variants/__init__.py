"""Training variants: other ways to train the supernet, by the name of `supernet.variant`.

A variant's options are the keyword arguments of its maker, except those of `CONTEXT`.
"""

from collections.abc import Iterable
from typing import Any

from ml_collections import ConfigDict

from nas_jax import plugins
from nas_jax.oneshot.training_variant import OPTIONS, TrainingVariant
from nas_jax.spaces import Space
from nas_jax.training.variants import darts, morphnet, pbt, smash


def plain(space: Space) -> TrainingVariant:
    """Change nothing: train the supernet as the paper does."""
    return TrainingVariant()


FIELD = "config.supernet.variant"
VARIANTS = {
    "none": plain,
    "smash": smash.make,
    "morphnet": morphnet.make,
    "pbt": pbt.make,
    "darts": darts.make,
}
# Keywords that a run gives to every maker that has them. latencies: of the target device, as of
# `latency_table.read`; None where sweep.latency.table names none.
CONTEXT = ("latencies",)


def make(
    name: str, space: Space, options: Iterable[tuple[str, Any]] = (), **context: Any
) -> TrainingVariant:
    """Make the variant of that name.

    Args:
      name: one of `VARIANTS`, or one that `plugins.resolve` finds.
      space: the search space.
      options: (option, value) pairs.
      **context: see `CONTEXT`; keywords that the variant lacks are left out.

    Raises: ValueError if no variant has the name, or an option is unknown or out of its range.
    """
    context = dict.fromkeys(CONTEXT) | context
    given = {"options": options, "options_field": OPTIONS, "context": context}
    made = plugins.make(FIELD, name, VARIANTS, "variants", space, **given)
    if not isinstance(made, TrainingVariant):
        raise ValueError(f"{FIELD}={name!r} made a {type(made).__name__}, not a TrainingVariant")
    return made


def of(settings: ConfigDict, space: Space, **context: Any) -> TrainingVariant:
    """Make the variant that a section `supernet` names; context and errors as of `make`."""
    return make(settings.variant, space, settings.variant_options, **context)


__all__ = ["VARIANTS", "TrainingVariant", "make", "of"]
