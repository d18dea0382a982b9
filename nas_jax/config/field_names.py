"""Names of fields that a user may have got wrong. The module imports nothing heavy."""

import difflib
from collections.abc import Collection

from nas_jax import naming


def check(name: str, allowed: Collection[str]) -> None:
    """Check that `name`, such as "data.image_size", is one of the fields `allowed`.

    Raises: ValueError that names the nearest field, or the fields of a section.
    """
    if name in allowed:
        return
    below = [field.removeprefix(f"{name}.") for field in allowed if field.startswith(f"{name}.")]
    if below:
        parts = ", ".join(dict.fromkeys(field.partition(".")[0] for field in below))
        raise ValueError(
            f"config.{name} is a section, which has {parts}: set a field of it, as config.{name}."
            f"{below[0]}=<value>"
        )
    raise ValueError(f"config.{name} is no field; nearest: config.{_nearest(name, allowed)}")


def _nearest(name, allowed):
    """Return the nearest field; one whose last part has all words of `name` comes first."""
    last = name.rpartition(".")[2]
    words = set(last.split("_"))
    lasts = {field: field.rpartition(".")[2] for field in allowed}
    among = [field for field in allowed if words <= set(lasts[field].split("_"))] or allowed
    if near := difflib.get_close_matches(name, among, 1, 0.5):
        return near[0]
    by_last = {lasts[field]: field for field in among}
    return by_last[naming.nearest(last, by_last)]
