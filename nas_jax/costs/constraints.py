"""What candidates cost, and which of them a search may ask for."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from nas_jax.costs import latency, params_flops
from nas_jax.data import dataset
from nas_jax.nn.network import network_options
from nas_jax.runtime import distributed
from nas_jax.spaces import Space, tabular

COSTS = {"max_params": "params", "max_flops": "flops", "max_latency": "latency_ms"}


class Constraints:
    """Costs of the networks with `supernet.filters`, and the limits of `sweep.constraints`.

    Every cost is linear in the masks: a number for each option of each Choice.

    Args:
      config, space, data: of the run.
      directory: of the run; keeps latency.json, so that latencies are measured once.
      table: the only architectures that are allowed, else None.

    Raises: ValueError if even the smallest architecture is beyond a limit.
    """

    def __init__(
        self,
        config: Any,
        space: Space,
        data: dataset.Data,
        directory: Path,
        table: tabular.Table | None = None,
    ):
        sweep, filters, self._space = config.sweep, config.supernet.filters, space
        counted = params_flops.per_option(
            space, filters=filters, **params_flops.image_options(data)
        )
        self._per_option = {
            field: {name: getattr(found, field) for name, found in counted.items()}
            for field in params_flops.Cost._fields
        }
        if sweep.latency.num_archs:
            with distributed.owner_first("latency"):  # no other may measure another
                self._per_option["latency_ms"] = latency.per_option(
                    space,
                    directory / "latency.json",
                    filters=filters,
                    **sweep.latency,
                    **params_flops.image_options(data),
                    dtype=network_options(config, "running")["dtype"],
                )
        self._limits = {name: limit for name, limit in sweep.constraints.items() if limit}
        self._allowed = table and set(map(bytes, self._decisions(space.from_strs([*table.rows]))))
        self._check_possible()

    def _decisions(self, archs):
        return np.asarray(self._space.to_decisions(archs), np.int32)

    def _check_possible(self):
        for name, limit in self._limits.items():
            least = params_flops.least(self._space, self._per_option[COSTS[name]])
            if least > limit:
                raise ValueError(
                    f"config.sweep.constraints.{name}={limit}, but the smallest architecture has "
                    f"{least:,.6g}"
                )

    def costs(self, archs: Any) -> dict[str, list]:
        """params, flops (multiply-adds) and latency_ms of masks [n, k], [n] each; latency_ms is
        None where none was measured."""
        found = {
            name: params_flops.total(self._space, per_option, archs).tolist()
            for name, per_option in self._per_option.items()
        }
        return found | {"latency_ms": found.get("latency_ms", [None] * len(found["params"]))}

    def allows(self, archs: Any) -> np.ndarray:
        """Whether masks [n, k] keep to all limits, and are in the table, if any: bool [n]."""
        allowed = np.ones(len(jax.tree.leaves(archs)[0]), bool)
        for name, limit in self._limits.items():
            allowed &= (
                params_flops.total(self._space, self._per_option[COSTS[name]], archs) <= limit
            )
        if self._allowed is not None:
            allowed &= [bytes(row) in self._allowed for row in self._decisions(archs)]
        return allowed
