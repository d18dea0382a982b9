"""Optuna: the trials of a sweep as a study in WORKDIR/optuna.log.

    optuna-dashboard runs/x/optuna.log

shows it, and `optuna.importance` says which Choices decide. A Choice is a categorical parameter;
its values are the numbers of its subsets, as of `strategies.optuna_samplers`. The study's attribute
"options" names them.
"""

import jax
import numpy as np

from nas_jax.listeners.base import Listener
from nas_jax.runtime.events import Event
from nas_jax.spaces.choices import subsets
from nas_jax.storage import json_files, schemas

FILE = "optuna.log"
STUDY = "sweep"
_ATTRIBUTES = ("arch", "params", "flops", "latency_ms")


class OptunaStudy(Listener):
    """Adds the trials that the study lacks, whoever evaluated them."""

    def begin(self, event: Event) -> None:
        """Open the study, and add the trials of earlier processes.

        Raises: ValueError if it has more trials than trials.jsonl: it is of another sweep.
        """
        self._workdir, self._space = event.where, event.values["space"]
        self._study = None
        if (self._workdir / FILE).exists() or (self._workdir / "trials.jsonl").exists():
            self._add_missing()

    def candidates(self, event: Event) -> None:
        """Add the trials of a round; those of a study's store are not the workdir's."""
        if event.where != self._workdir:
            return
        if self._study is not None and self._count == event.step:
            self._add(event.values)
        else:
            self._add_missing()

    def _add_missing(self):
        """Read trials.jsonl, and add the trials that the study lacks."""
        if self._study is None:
            self._open()
        rows = list(json_files.iterate_jsonl(self._workdir / "trials.jsonl", schemas.TRIAL))
        if len(rows) < self._count:
            raise ValueError(
                f"{self._workdir / FILE} has {self._count} trials, trials.jsonl {len(rows)}: it is "
                "of another sweep; remove it"
            )
        self._add(rows[self._count :])

    def _open(self):
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._optuna = optuna
        journal, path = optuna.storages.journal, self._workdir / FILE
        json_files.mend_jsonl(path)  # Optuna reads no journal with half a line in it
        storage = optuna.storages.JournalStorage(journal.JournalFileBackend(str(path)))
        given = {"study_name": STUDY, "storage": storage}
        if STUDY in optuna.get_all_study_names(storage):
            self._study = optuna.load_study(**given)
        else:
            self._study = optuna.create_study(**given, direction="maximize")
        self._count = len(self._study.get_trials(deepcopy=False))
        choices = jax.tree.leaves(self._space.choices)
        categorical = optuna.distributions.CategoricalDistribution
        self._distributions = {c.name: categorical(range(c.num_subsets)) for c in choices}
        if not self._count:
            self._study.set_user_attr("options", {c.name: self._names(c) for c in choices})

    def _names(self, choice):
        names = self._space.option_names(choice)
        return [" + ".join(names[j] for j in np.flatnonzero(row)) for row in subsets(choice)]

    def _add(self, rows):
        if not rows:
            return
        decisions = self._space.to_decisions(self._space.from_strs([row["arch"] for row in rows]))
        states = self._optuna.trial.TrialState
        for row, numbers in zip(rows, np.asarray(decisions).tolist()):
            failed, attributes = row["value"] is None, {name: row.get(name) for name in _ATTRIBUTES}
            trial = self._optuna.trial.create_trial(
                state=states.FAIL if failed else states.COMPLETE,
                value=row["value"],
                params=dict(zip(self._distributions, numbers)),
                distributions=self._distributions,
                user_attrs={name: x for name, x in attributes.items() if x is not None},
            )
            self._study.add_trial(trial)
            self._count += 1
