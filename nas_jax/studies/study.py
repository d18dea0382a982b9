"""What the parts of a study share: candidates, samples of them, scores, stand-alone networks."""

import functools
from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from nas_jax.config import variants
from nas_jax.report import results as results_lib
from nas_jax.report.results import Network
from nas_jax.run import Run
from nas_jax.runtime import rng
from nas_jax.standalone import selection
from nas_jax.storage import csv_columns, file_paths, schemas
from nas_jax.studies.store import Store
from nas_jax.training import supernet

PAPER_COLUMNS = ("one_shot_accuracy", "standalone_accuracy", "symmetric_kl")
_ACCURACY = schemas.Kind(f"{schemas.SHARE.words} (divide per cent by 100)", schemas.SHARE.fits)


class Study:
    """The objects of a study; what it asks for is trained when it is first asked for.

    Attributes:
      run: the study's, whose space is that of the candidates.
      pool: where supernets, scores and networks are.
      variants: a config per label; the first, the reference, is that of the samples.
      results: what its workdir holds: the config, versions.
    """

    def __init__(self, run: Run):
        self.run, self.config, self.space = run, run.config, run.space
        self.store = Store(run.config.study.pool, run.data)
        self.variants = variants.resolve(run.config)
        self.results = results_lib.RunResults(run.workdir, run.space)
        self._points = paper_points(run.config.study)

    @property
    def reference(self) -> str:
        """Return the label of the reference."""
        return next(iter(self.variants))

    @functools.cached_property
    def candidates(self) -> list[str]:
        """Draw `sweep.num_candidates` random ones, each once; more of them begin with the same."""
        key = rng.named(rng.key(self.config.sweep.seed), "candidates")
        keys = rng.each(key, jnp.arange(self.config.sweep.num_candidates))
        return list(dict.fromkeys(self.space.to_strs(jax.vmap(self.space.sample)(keys))))

    @functools.cached_property
    def trials(self) -> list[dict]:
        """Score the candidates by the reference."""
        self.store.train_supernets(self.variants)
        return self.store.evaluate(self.variants[self.reference], self.candidates)

    def seeded(self) -> dict[str, list[ConfigDict]]:
        """Return the configs of each variant, by label: one for each of `study.num_seeds` seeds.

        Seeds are counted from that of the variant.
        """
        seeds = range(self.config.study.num_seeds)
        return {
            label: [
                variants.changed(
                    config, label, [(name, config.seed + seed) for name in ("seed", "sweep.seed")]
                )
                for seed in seeds
            ]
            for label, config in self.variants.items()
        }

    def searches(self) -> dict[str, list[list[dict]]]:
        """Return the trials of each seed's search, by label; train the supernets before."""
        configs = self.seeded()
        self.store.train_supernets(
            {
                f"{label}, seed {config.seed}": config
                for label, several in configs.items()
                for config in several
                if config.sweep.score not in supernet.WITHOUT
            }
        )
        trials = iter(self.store.search([c for several in configs.values() for c in several]))
        return {label: [next(trials) for _ in several] for label, several in configs.items()}

    def selection(self, protocol: str) -> dict[str, Sequence[str]]:
        """Select the architectures of each group, by the reference's scores."""
        config, path = self.config, self.results.directory / f"selection_{protocol}.json"
        filters = config.retrain[protocol].filters[0]

        def tune(text):
            return self.store.tune([(config, text, filters, config.seed)])[0]

        return selection.keep_or_select(path, self.run, protocol, self.trials, tune)

    def groups(self, protocol: str) -> dict[tuple[int, str], list[Network]]:
        """Train stand-alone networks, by (filters, group), with the reference's scores."""
        chosen = self.selection(protocol)
        trained = self.store.train_networks(self.config, protocol, chosen)
        known = [row for row in self.trials if row["value"] is not None]
        scores = {row["arch"]: self.results.ranking_metric.factor * row["value"] for row in known}
        return results_lib.grouped(trained, chosen, scores)

    def networks(self, archs: Iterable[str]) -> dict[str, Network]:
        """Train the final networks of these architectures, or widths, by their strings."""
        chosen = {"top": sorted(archs)}
        trained = self.store.train_networks(self.config, "final", chosen)
        (networks,) = results_lib.grouped(trained, chosen, {}).values()
        return {network.arch: network for network in networks}

    @functools.cached_property
    def samples(self) -> dict[str, list[Network]]:
        """Train the networks of the protocol "short", by the name of the sample."""
        groups = self.groups("short")
        first = min(filters for filters, _ in groups)
        return {n: groups[first, n] for n in results_lib.SAMPLES if (first, n) in groups}

    def values(self, config: ConfigDict, archs: Sequence[str], step: int | None = None) -> list:
        """Score architectures, in the score's unit; None for a failure."""
        self.store.train_supernets(self.variants)
        factor = results_lib.RANKING_METRICS[config.sweep.score].factor
        rows = self.store.evaluate(config, archs, step)
        return [None if row["value"] is None else factor * row["value"] for row in rows]

    def paper(self, column: str) -> list[float] | None:
        """Return a column of the paper's points, accuracies in per cent; None without a file."""
        if self._points is None:
            return None
        factor = 1 if column == "symmetric_kl" else 100
        return [factor * value for value in self._points[column]]


def paper_points(study: ConfigDict) -> dict[str, list[float]] | None:
    """Read the columns of the paper's points that are drawn; None if no file is named.

    Args:
      study: the config's section. Its file has the accuracies in [0, 1] and the divergence in nats.

    Raises: ValueError that names the file and the line if a number is missing or out of range.
    """
    given = study.paper_points
    if not given:
        return None
    said = f"config.study.paper_points={given!r}"
    path = file_paths.local(given, "config.study.paper_points")
    try:
        cells = csv_columns.parse(path.read_bytes(), said)
    except OSError as error:
        raise ValueError(f"{said}: {error}") from error
    points = {}
    for name in (*PAPER_COLUMNS, *study.paper_columns):
        kind = schemas.AMOUNT if name == "symmetric_kl" else _ACCURACY
        points[name] = list(cells.numbers(name, kind).values())
    if not cells.rows:
        raise ValueError(f"{said} has no points")
    return points
