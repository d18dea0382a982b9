"""Recipes: the fields of the supernet's training that come with a training variant.

Choosing a variant sets the fields of its recipe, but for those that are set beside it:

    --config.supernet.variant=smash --config.supernet.train.base_lr=0.01    the rest of the recipe
    nas_jax.search(.., fields={"supernet.variant": "smash"})                the whole recipe
    ("SMASH", ("supernet.variant", "smash"))                    a line of study.variants, the same
    nas_jax.config.choose(c, "smash")             in a config file; what is set later changes it

The values are in config.json. A config file that assigns `c.supernet.variant` sets that alone.

SMASH's recipe is that of its published code (github.com/ajbrock/SMASH): one architecture for a
batch; Adam at 1e-3 with betas 0.5 and 0.999 and epsilon 1e-4; a cosine to zero; weight decay of
1e-4 on all parameters, used or not, but for the hypernetwork's (which the variant leaves out).
"""

from collections.abc import Collection
from typing import Any

from ml_collections import ConfigDict

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
    given = set(beside)
    if "supernet.train.optimizer" in given:
        given |= {f"supernet.train.{name}" for name in _OF_OPTIMIZER}
    values = {
        name: value
        for name, value in recipe(config).items()
        if not any(name == field or name.startswith(f"{field}.") for field in given)
    }
    config.update_from_flattened_dict(values)
    return values


def recipe(config: ConfigDict) -> dict[str, Any]:
    """Return {field: value} of the recipe of a config's variant; {} if it has none.

    The light form of SMASH, with the option `basis`, has none.
    """
    supernet = config.supernet
    if supernet.variant != "smash" or _options(supernet).get("basis"):
        return {}
    train = {
        "optimizer": "adam",
        "optimizer_options": (("b1", 0.5), ("b2", 0.999), ("eps", 1e-4)),
        "base_lr": 1e-3 * REFERENCE_BATCH / supernet.train.batch_size,  # 1e-3 at any batch
        "schedule": "cosine",
        "warmup_share": 0.0,
        "clip_norm": 0.0,
        "l2": 5e-5,  # times the squares: a decay of 1e-4
        "l2_norm_params": True,
        "l2_unused": True,
    }
    named = {f"supernet.train.{name}": value for name, value in train.items()}
    return {"supernet.sampler": "shared_path", **named}


def with_form(config: ConfigDict) -> ConfigDict:
    """Return a config that names the form of SMASH, which is the published one if it names none.

    A config.json that names none is of an earlier version, which had the light form alone.
    """
    if config.supernet.variant != "smash" or "basis" in _options(config.supernet):
        return config
    config = config.copy_and_resolve_references()
    config.supernet.variant_options = (*config.supernet.variant_options, ("basis", 0))
    return config


def _options(supernet):
    """Return the options of the variant; what is no pair is refused later."""
    pairs = (option for option in supernet.variant_options if isinstance(option, tuple | list))
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}
