"""Recipes: the fields of the supernet's training that come with a training variant.

Choosing a variant sets the fields of its recipe, but for those that are set beside it:

    --config.supernet.variant=smash --config.supernet.train.base_lr=0.01    the rest of the recipe
    nas_jax.search(.., fields={"supernet.variant": "smash"})                the whole recipe
    ("SMASH", ("supernet.variant", "smash"))                    a line of study.variants, the same
    nas_jax.config.choose(c, "smash")             in a config file; what is set later changes it

The values are in config.json. The recipe's rate follows the batch size until another is set. A
config file that assigns `c.supernet.variant` sets that alone; `warn_of_form` says so.

SMASH's recipe is that of its published code (github.com/ajbrock/SMASH): one architecture for a
batch; Adam at 1e-3 with betas 0.5 and 0.999 and epsilon 1e-4; a cosine to zero; weight decay of
1e-4 on all parameters, used or not, but for the hypernetwork's (which the variant leaves out); a
mean gradient over the batch of the plain cross-entropy.
"""

import logging
from collections.abc import Collection
from typing import Any

from ml_collections import ConfigDict

logger = logging.getLogger(__name__)

FIELD = "supernet.variant"
REFERENCE_BATCH = 1024  # `train.base_lr` belongs to it
_OF_OPTIMIZER = ("optimizer_options", "base_lr")  # who names an optimiser sets these, too


def choose(config: ConfigDict, variant: str, beside: Collection[str] = ()) -> dict[str, Any]:
    """Set `supernet.variant` of a config, and the fields of the variant's recipe.

    Args:
      config: is changed.
      variant: the value of `supernet.variant`.
      beside: fields, or sections, that are set on purpose and stay as they are.

    Returns: {field: value} of the recipe, without these.
    """
    config.supernet.variant = variant
    values = _without(beside, recipe(config))
    config.update_from_flattened_dict(values)
    return values


def follow(config: ConfigDict, before: ConfigDict, given: Collection[str]) -> dict[str, Any]:
    """Set what follows from fields that were set: the recipe of a variant that is among them.

    If it is not, what the config had of its recipe becomes that of the config as it is now: the
    rate is that of the batch.

    Args:
      config: is changed.
      before: the config before the fields were set.
      given: these fields, or sections; they stay as they are.

    Returns: {field: value} of what is set.
    """
    if FIELD in given:
        return choose(config, config.supernet.variant, given)
    former, kept = recipe(before), differing(before)
    values = _without({*given, *kept}, recipe(config))
    values = {name: value for name, value in values.items() if value != former.get(name, value)}
    config.update_from_flattened_dict(values)
    return values


def _without(fields, values):
    """Leave out the fields, those in the sections among them, and those of an optimiser there."""
    fields = set(fields)
    if "supernet.train.optimizer" in fields:
        fields |= {f"supernet.train.{name}" for name in _OF_OPTIMIZER}
    return {
        name: value
        for name, value in values.items()
        if not any(name == field or name.startswith(f"{field}.") for field in fields)
    }


def recipe(config: ConfigDict) -> dict[str, Any]:
    """Return {field: value} of the recipe of a config's variant; {} if it has none.

    The light form of SMASH, with the option `basis`, has none.
    """
    options = _options(_value(config, "supernet.variant_options"))
    if _value(config, FIELD) != "smash" or options.get("basis"):
        return {}
    batch_size = max(config.supernet.train.batch_size, 1)  # 0 is refused later
    train = {
        "optimizer": "adam",
        "optimizer_options": (("b1", 0.5), ("b2", 0.999), ("eps", 1e-4)),
        "base_lr": 1e-3 * REFERENCE_BATCH / batch_size,  # 1e-3 at any batch
        "schedule": "cosine",
        "warmup_share": 0.0,
        "clip_norm": 0.0,
        "l2": 5e-5,  # times the squares: a decay of 1e-4
        "l2_norm_params": True,
        "l2_unused": True,
        "label_smoothing": 0.0,
    }
    named = {f"supernet.train.{name}": value for name, value in train.items()}
    return {"supernet.sampler": "shared_path", "supernet.per_use_gradients": False, **named}


def differing(config: ConfigDict) -> dict[str, Any]:
    """Return {field: value} of a config where it differs from the recipe of its variant."""
    fields = recipe(config)
    there = {name: _value(config, name) for name in fields}
    return {name: value for name, value in there.items() if value != fields[name]}


def _value(config, name):
    """Return the value of a field; None if it is missing, which is refused later."""
    for part in name.split("."):
        config = config.get(part) if isinstance(config, ConfigDict) else None
    return config


def with_form(config: ConfigDict) -> ConfigDict:
    """Return a config that names the form of SMASH, which is the published one if it names none.

    A config.json that names none is of an earlier version, which had the light form alone.
    """
    options = config.supernet.variant_options
    if config.supernet.variant != "smash" or names_form(options):
        return config
    config = config.copy_and_resolve_references()
    config.supernet.variant_options = (*options, ("basis", 0))
    return config


def warn_of_form(config: ConfigDict) -> None:
    """Warn if a SMASH that names no form is not trained by its recipe.

    Such a config may be of an earlier version, which had the light form alone and no recipe.
    """
    fields = {} if names_form(config.supernet.variant_options) else differing(config)
    if fields:
        logger.warning(
            "supernet.variant='smash' is the published form now, but is not trained as published: "
            "%s. If this is meant, name the form: supernet.variant_options=(('basis', 0),). "
            "(('basis', 4),) is the light form of earlier versions; "
            "nas_jax.config.choose(c, 'smash') sets the published training",
            ", ".join(f"{name}={value!r}" for name, value in fields.items()),
        )


def names_form(options: Any) -> bool:
    """Say whether options of SMASH, as of a config or of JSON, name its form."""
    return "basis" in _options(options)


def _options(options):
    """Return the options of a variant as a dict; what is no pair of a name is refused later."""
    pairs = options if isinstance(options, tuple | list) else ()
    pairs = [pair for pair in pairs if isinstance(pair, tuple | list) and len(pair) == 2]
    return {name: value for name, value in pairs if isinstance(name, str)}
