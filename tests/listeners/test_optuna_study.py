"""The trials of a sweep as a study of Optuna, read back from its file."""

import logging

import jax
import optuna
import pytest

from nas_jax.listeners import optuna_study
from nas_jax.runtime import events
from nas_jax.spaces import choices
from nas_jax.strategies import optuna_samplers
from tests.listeners import runs


def process():
    """The listener of a new process."""
    return events.listening({"optuna": optuna_study.OptunaStudy()})


def read(workdir):
    """The study in a workdir."""
    path = str(workdir / "optuna.log")
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(path))
    return optuna.load_study(study_name="sweep", storage=storage)


def check(workdir, trials):
    """The study has these trials, each once, in order."""
    study = read(workdir)
    assert [trial.user_attrs["arch"] for trial in study.trials] == [row["arch"] for row in trials]
    assert [trial.value for trial in study.trials] == [row["value"] for row in trials]
    return study


def test_a_study_has_the_trials_of_a_sweep(tmp_path):
    with process():
        runs.whole(tmp_path)
    study = check(tmp_path, runs.rows())
    assert study.direction == optuna.study.StudyDirection.MAXIMIZE
    assert study.best_value == max(value for value in runs.VALUES if value is not None)
    assert study.best_trial.number == runs.BEST
    states = [trial.state.name for trial in study.trials]
    assert states == ["FAIL" if value is None else "COMPLETE" for value in runs.VALUES]
    attributes = {"arch": runs.ARCHS[7], "params": 107, "flops": 1007}
    assert study.trials[7].user_attrs == attributes  # latencies were not measured


def test_parameters_are_those_of_the_strategy(tmp_path):
    """Names, values and numbers of options, as Optuna's samplers have them; and what they mean."""
    with process():
        runs.whole(tmp_path)
    study, space = read(tmp_path), runs.SPACE
    replay = optuna_samplers._Replay(space, None, None, ("value",))
    options = study.user_attrs["options"]
    for trial in study.trials:
        assert trial.distributions == replay._distributions
        decisions = [trial.params[name] for name in replay._distributions]
        arch = space.from_str(trial.user_attrs["arch"])
        assert decisions == space.to_decisions(arch).tolist()
        for choice, mask in zip(jax.tree.leaves(space.choices), jax.tree.leaves(arch)):
            names = [n for n, on in zip(space.option_names(choice), mask) if on]
            assert options[choice.name][trial.params[choice.name]] == " + ".join(names)
    assert {name: len(names) for name, names in options.items()} == {
        choice.name: len(choices.subsets(choice)) for choice in jax.tree.leaves(space.choices)
    }


def test_importances_can_be_computed(tmp_path):
    """A value that the ops of the first block alone decide: their Choice matters most."""
    trials = runs.rows([0.0] * len(runs.ARCHS))
    for row in trials:
        row["value"] = float("sep3x3" in row["arch"].partition("|")[0])
    with process():
        runs.begin(tmp_path)
        runs.sweep(tmp_path, trials)
    found = optuna.importance.get_param_importances(read(tmp_path))
    assert sum(found.values()) == pytest.approx(1)
    ops = [c.name for c in jax.tree.leaves(runs.SPACE.choices) if "op" in c.name]
    assert max(found, key=found.get) == ops[0]


@pytest.mark.parametrize("killed_after", [None, 0, 4, 8])
def test_a_resumed_and_extended_sweep_adds_what_is_missing(tmp_path, killed_after):
    """Also what was written to trials.jsonl before anyone was told."""
    trials = runs.rows()
    with process():
        runs.begin(tmp_path)
        runs.sweep(tmp_path, trials[:10], killed_after)
    with process():
        runs.begin(tmp_path)
        runs.sweep(tmp_path, trials)
        runs.end(tmp_path)
    check(tmp_path, trials)
    before = (tmp_path / "optuna.log").read_bytes()
    with process():
        runs.whole(tmp_path)  # which evaluates nothing
    assert (tmp_path / "optuna.log").read_bytes() == before


def test_one_that_was_chosen_later_gets_the_earlier_trials(tmp_path):
    runs.sweep(tmp_path, runs.rows()[:8])
    with process():
        runs.begin(tmp_path)
        check(tmp_path, runs.rows()[:8])
        runs.sweep(tmp_path, runs.rows())
    check(tmp_path, runs.rows())


def test_half_a_line_is_dropped(tmp_path, caplog):
    """As a process leaves it that is killed while it writes."""
    with process():
        runs.begin(tmp_path)
        runs.sweep(tmp_path, runs.rows()[:8])
    path = tmp_path / "optuna.log"
    path.write_bytes(path.read_bytes()[:-20])
    with process():
        runs.begin(tmp_path)
        assert "optuna.log: the last line was cut short" in caplog.text
        runs.sweep(tmp_path, runs.rows())
    check(tmp_path, runs.rows())


def test_a_study_of_another_sweep_is_not_mixed_with_this_one(tmp_path, caplog):
    with process():
        runs.whole(tmp_path)
    (tmp_path / "trials.jsonl").unlink()
    with caplog.at_level(logging.WARNING), process():
        runs.begin(tmp_path)
        runs.sweep(tmp_path, runs.rows()[:4])
    (record,) = caplog.records
    assert "optuna.log has 12 trials, trials.jsonl 0: it is of another" in record.getMessage()
    check(tmp_path, runs.rows())


def test_without_a_sweep_there_is_no_study(tmp_path):
    """And the searches in a study's store are not the workdir's."""
    with process():
        runs.begin(tmp_path)
        runs.train(tmp_path, [1.0])
        runs.sweep(tmp_path / "store", runs.rows())
        runs.end(tmp_path)
    assert not (tmp_path / "optuna.log").exists()
