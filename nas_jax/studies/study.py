"""The objects that the parts of a study share: candidates, samples, values, networks."""

import functools
from collections.abc import Iterable, Mapping, Sequence

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from nas_jax.config import variants
from nas_jax.report import results as results_lib
from nas_jax.report.results import Network
from nas_jax.run import Run
from nas_jax.runtime import rng
from nas_jax.standalone import retrain, selection
from nas_jax.storage import csv_columns, file_paths, schemas
from nas_jax.studies.store import Store
from nas_jax.training.ranking_metrics import ranking_metric

PAPER_COLUMNS = ("one_shot_accuracy", "standalone_accuracy", "symmetric_kl")
_ACCURACY = schemas.Kind(f"{schemas.SHARE.words} (divide per cent by 100)", schemas.SHARE.fits)


class Study:
    """A study; a part that first asks for a network or a value has it trained or evaluated.

    Attributes:
      run, config, space: of the study; the candidates are of this space.
      store: the store of supernets, evaluations and networks.
      variants: a config for each label; the first, the reference, gives the samples.
      results: the results in the workdir, config and versions, and the networks of the store that
        a part has asked for.
      scores: other scores of the networks, for the page: {heading: {architecture: value}}.
    """

    def __init__(self, run: Run):
        self.run, self.config, self.space = run, run.config, run.space
        self.store = Store(run.config.study.pool, run.data)
        self.variants = variants.resolve(run.config)
        self.results = results_lib.RunResults(run.workdir, run.space)
        self.scores: dict[str, dict[str, float | None]] = {}
        self._points = paper_points(run.config.study)

    @property
    def reference(self) -> str:
        """The label of the reference."""
        return next(iter(self.variants))

    @functools.cached_property
    def candidates(self) -> list[str]:
        """`sweep.num_candidates` random architectures, each once; a larger number begins alike."""
        key = rng.named(rng.key(self.config.sweep.seed), "candidates")
        keys = rng.each(key, jnp.arange(self.config.sweep.num_candidates))
        return list(dict.fromkeys(self.space.to_strs(jax.vmap(self.space.sample)(keys))))

    @functools.cached_property
    def trials(self) -> list[dict]:
        """Evaluate the candidates by the reference."""
        self.store.train_supernets(self.variants)
        return self.store.evaluate(self.variants[self.reference], self.candidates)

    def seeded(self) -> dict[str, list[ConfigDict]]:
        """Return `study.num_seeds` configs of each variant, by label.

        Their seeds are counted from that of the variant.
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
        """Train the supernets and search, for each seed; return lists of trials by label."""
        configs = self.seeded()
        self.store.train_supernets(
            {
                f"{label}, seed {config.seed}": config
                for label, several in configs.items()
                for config in several
            }
        )
        trials = iter(self.store.search([c for several in configs.values() for c in several]))
        return {label: [next(trials) for _ in several] for label, several in configs.items()}

    def selection(self, protocol: str) -> dict[str, Sequence[str]]:
        """Select the architectures of each group, by the reference's values."""
        config, path = self.config, self.results.directory / f"selection_{protocol}.json"
        filters = config.retrain[protocol].filters[0]

        def tune(text):
            return self.store.tune([(config, text, filters, config.seed)])[0]

        return selection.keep_or_select(path, self.run, protocol, self.trials, tune)

    def how(self, protocol: str) -> str:
        """Say how the study trains networks, "together" or "each", wherever it goes on."""
        path = self.results.directory / f"compile_{protocol}.json"
        return retrain.keep_or_choose(path, self.config, protocol)

    def groups(self, protocol: str) -> dict[tuple[int, str], list[Network]]:
        """Train stand-alone networks, by (filters, group), with the reference's values."""
        chosen = self.selection(protocol)
        trained = self.store.train_networks(self.config, protocol, chosen, self.how(protocol))
        factor = self.results.ranking_metric.factor
        values = {
            row["arch"]: factor * row["value"] for row in self.trials if row["value"] is not None
        }
        groups = results_lib.grouped(trained, chosen, values)
        self.results.hold(protocol, groups)
        return groups

    def networks(self, groups: Mapping[str, Iterable[str]]) -> dict[str, Network]:
        """Train the final networks of groups of strings, which may name widths; by string."""
        chosen = {"top": sorted({arch for archs in groups.values() for arch in archs})}
        trained = self.store.train_networks(self.config, "final", chosen, self.how("final"))
        (((filters, _), networks),) = results_lib.grouped(trained, chosen, {}).items()
        of_arch = {network.arch: network for network in networks}
        named = {
            (filters, name): [of_arch[arch] for arch in dict.fromkeys(archs)]
            for name, archs in groups.items()
        }
        self.results.hold("final", named)
        return of_arch

    @functools.cached_property
    def samples(self) -> dict[str, list[Network]]:
        """Train the networks of the protocol "short"; return them by the name of the sample."""
        groups = self.groups("short")
        first = min(filters for filters, _ in groups)
        return {n: groups[first, n] for n in results_lib.SAMPLES if (first, n) in groups}

    def values(self, config: ConfigDict, archs: Sequence[str], step: int | None = None) -> list:
        """Evaluate architectures: [N] in the unit of `ranking_metric`, None for a failure."""
        self.store.train_supernets(self.variants)
        factor = ranking_metric(config.sweep.score).factor
        rows = self.store.evaluate(config, archs, step)
        return [None if row["value"] is None else factor * row["value"] for row in rows]

    def paper(self, column: str) -> list[float] | None:
        """Return a column of the paper's points: per cent, or nats; None without a file."""
        if self._points is None:
            return None
        factor = 1 if column == "symmetric_kl" else 100
        return [factor * value for value in self._points[column]]


def paper_points(study: ConfigDict) -> dict[str, list[float]] | None:
    """Read the columns of the paper's points; None if the config names no file.

    Args:
      study: the section `study`. Its file has accuracies in [0, 1] and divergences in nats.

    Raises: ValueError that names the file and the line if a number is missing or out of range.
    """
    given = study.paper_points
    if not given:
        return None
    field = f"config.study.paper_points={given!r}"
    path = file_paths.local(given, "config.study.paper_points")
    try:
        cells = csv_columns.parse(path.read_bytes(), field)
    except OSError as error:
        raise ValueError(f"{field}: {error}") from error
    points = {}
    for name in (*PAPER_COLUMNS, *study.paper_columns):
        kind = schemas.AMOUNT if name == "symmetric_kl" else _ACCURACY
        points[name] = list(cells.numbers(name, kind).values())
    if not cells.rows:
        raise ValueError(f"{field} has no points")
    return points
