"""The costs of candidates, and limits that a search keeps to."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nas_jax.costs import latency, latency_table, params_flops
from nas_jax.runtime import distributed
from nas_jax.spaces import Space, combinations
from nas_jax.spaces.tabular import Table

COSTS = {"max_params": "params", "max_flops": "flops", "max_latency": "latency_ms"}


class Constraints:
    """Costs of a supernet's architectures, and limits on them.

    Every cost is linear in the masks: a number for each option of each Choice. These numbers are
    counted, and latencies measured, when they are first needed.

    Args:
      space: the search space.
      filters: F of the networks.
      images: {"image_size", "num_classes", "channels"}, see `params_flops.image_options`.
      limits: {name of `COSTS`: the most that is allowed; 0: no limit}.
      timed: {"num_archs", "batch_size", "dtype"} of `latency.per_option`; `num_archs` 0: latencies
        are not measured.
      listed: latencies of a target device, the name of a table (`latency_table`); "": there are
        none.
      directory: has latency.json, so that latencies are measured once.
      table: if given, only its architectures are allowed.

    Attributes:
      latencies: milliseconds of options as `latency_table.read` gives them; None: none are listed.

    Raises: ValueError if the listed latencies do not fit the space.
    """

    def __init__(
        self,
        space: Space,
        *,
        filters: int,
        images: Mapping[str, Any],
        limits: Mapping[str, float],
        timed: Mapping[str, Any],
        directory: Path,
        listed: str = "",
        table: Table | None = None,
    ):
        of = {"filters": filters, "image_size": images["image_size"]}
        self.latencies = latency_table.read(space, listed, **of)
        self._space, self._filters, self._images, self._timed = space, filters, images, timed
        self._path, self._table = directory / "latency.json", table
        self._limits = {name: limit for name, limit in limits.items() if limit}

    @functools.cached_property
    def _counted(self):
        """{name of a cost: `per_option` of `params_flops.total`}, of costs without measurement."""
        counted = params_flops.per_option(self._space, filters=self._filters, **self._images)
        costs = {
            field: {name: getattr(cost, field) for name, cost in counted.items()}
            for field in params_flops.Cost._fields
        }
        return costs if self.latencies is None else {**costs, "latency_ms": self.latencies}

    @functools.cached_property
    def _per_option(self):
        """The counted costs, and the measured one."""
        if self.latencies is not None or not self._timed["num_archs"]:
            return self._counted
        timed = {"filters": self._filters, **self._timed, **self._images}
        with distributed.lead_first("latency"):  # all processes use one measurement
            measured = latency.per_option(self._space, self._path, **timed)
        return {**self._counted, "latency_ms": measured}

    @functools.cached_property
    def _listed(self):
        """The decision vectors of the table's architectures, as bytes; None without a table."""
        if self._table is None:
            return None
        return set(map(bytes, self._decisions(self._space.from_strs([*self._table.rows]))))

    def _decisions(self, archs):
        return np.asarray(self._space.to_decisions(archs), np.int32)

    def check(self) -> None:
        """Count and measure the costs; all processes of a run must call it.

        Raises: ValueError if even the smallest architecture is beyond a limit.
        """
        self._check(self._per_option)  # counts and measures

    def latency_per_option(self) -> Mapping[str | None, np.ndarray] | None:
        """Return the milliseconds of options, as `latency.per_option`; None if there are none.

        They are measured if they were not; all processes of a run must call it.
        """
        return self._per_option.get("latency_ms")

    def check_counted(self) -> None:
        """Do as `check` for the costs that need no measurement; nothing is written."""
        if self._limits:
            self._check(self._counted)

    def _check(self, per_option):
        known = {name: limit for name, limit in self._limits.items() if COSTS[name] in per_option}
        for name, limit in known.items():
            least = params_flops.least(self._space, per_option[COSTS[name]])
            if least > limit:
                raise ValueError(
                    f"config.sweep.constraints.{name}={limit}, but the smallest architecture has "
                    f"{least:,.6g}; raise the limit, or lower supernet.filters"
                )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the costs that `costs` gives; nothing is measured for them."""
        has_latency = self.latencies is not None or self._timed["num_archs"]
        return ("params", "flops", *(["latency_ms"] if has_latency else []))

    def costs(self, archs: Any) -> dict[str, list]:
        """Add up params, flops (multiply-adds) and latency_ms of masks [n, k], [n] each.

        latency_ms has None if there are no latencies.
        """
        sums = {
            name: params_flops.total(self._space, per_option, archs).tolist()
            for name, per_option in self._per_option.items()
        }
        return sums | {"latency_ms": sums.get("latency_ms", [None] * len(sums["params"]))}

    def allows(self, archs: Any) -> np.ndarray:
        """Say which of masks [n, k] keep to all limits and the space's rule: bool [n].

        With a table only its architectures do.
        """
        allowed = combinations.kept(self._space, archs)
        for name, limit in self._limits.items():
            per_option = self._per_option[COSTS[name]]
            allowed &= params_flops.total(self._space, per_option, archs) <= limit
        if self._listed is not None:
            allowed &= [bytes(row) in self._listed for row in self._decisions(archs)]
        return allowed
