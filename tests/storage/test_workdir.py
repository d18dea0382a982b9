"""The folder of a run: nothing of another run is overwritten."""

import contextlib
import math

import jax
import pytest

from nas_jax.storage import decided, json_files, workdir

CONFIG = {"seed": 0, "train": {"base_lr": 0.1, "filters": (16, 32)}, "l2": math.nan}


def test_a_workdir_is_opened_again_by_its_own_config(tmp_path):
    for _ in range(2):  # a tuple and NaN come back as a list and null, and are no difference
        workdir.open_workdir(tmp_path / "run", CONFIG, {"fingerprint": "f0"})
    expected = {"seed": 0, "train": {"base_lr": 0.1, "filters": [16, 32]}, "l2": None}
    assert json_files.read_json(tmp_path / "run" / "config.json") == expected
    versions = json_files.read_json(tmp_path / "run" / "versions.json")
    assert versions["jax"] == jax.__version__
    assert {"python", "nas_jax", "flax", "optax"} <= versions.keys()


def test_a_workdir_of_another_config_is_refused_and_kept(tmp_path):
    run = tmp_path / "run"
    workdir.open_workdir(run, CONFIG, {"fingerprint": "f0"})
    before = (run / "config.json").read_bytes()
    (tmp_path / "run-2").mkdir()
    other = {**CONFIG, "seed": 7, "train": {"base_lr": 0.2, "filters": (16, 32)}}
    message = (
        rf"--workdir={run} .*: seed is 0 there and 7 here; train\.base_lr is 0\.1 there and 0\.2 "
        rf"here\..* --workdir={tmp_path / 'run-3'}$"
    )
    with pytest.raises(ValueError, match=message):
        workdir.open_workdir(run, other, {"fingerprint": "f0"})
    assert (run / "config.json").read_bytes() == before


PROTOCOL = {"filters": [4], "groups": {"tuned": 0, "top": 1}, "train": {"base_lr": 0.1}}
THERE = {
    "seed": 0,
    "supernet": {"sampler": "path_dropout", "train": {"base_lr": 0.1}},
    "sweep": {"score": "accuracy", "num_candidates": 4, "strategy": "random_search"},
    "retrain": {"short": PROTOCOL, "final": PROTOCOL},
    "study": {"parts": []},
}
TUNED = PROTOCOL | {"groups": {"tuned": 1}}
F8 = {"retrain": {"short": PROTOCOL, "final": {**PROTOCOL, "filters": [8]}}}


@pytest.mark.parametrize(
    ("files", "there", "here", "refused"),
    [
        ((), {}, {"seed": 1}, False),
        (("checkpoints/1",), {}, {"seed": 1}, True),
        (("checkpoints/1",), {}, {"sweep": THERE["sweep"] | {"score": "kl"}}, False),
        (("trials.jsonl",), {}, {"sweep": THERE["sweep"] | {"score": "kl"}}, True),
        (("trials.jsonl",), {}, {"sweep": THERE["sweep"] | {"num_candidates": 8}}, False),
        (("retrain/final/selection.json",), {}, F8, False),
        # Tuned widths begin with those of an F.
        (
            ("retrain/final/selection.json",),
            {"retrain": {"short": PROTOCOL, "final": TUNED}},
            {"retrain": {"short": PROTOCOL, "final": TUNED | {"filters": [8]}}},
            True,
        ),
        # A warm start has the weights of the supernet, wherever that is now.
        (
            ("retrain/final/F4/ab/warm0/result.json",),
            {},
            {"supernet": THERE["supernet"] | {"train": {"base_lr": 1.0}}},
            True,
        ),
        (("selection_short.json",), {"study": {"parts": ["final"]}}, {"seed": 1}, True),
        (("checkpoints/1",), {"sweep": None}, {}, True),
    ],
)
def test_a_field_may_change_if_nothing_that_is_there_depends_on_it(
    tmp_path, files, there, here, refused
):
    json_files.write_json(tmp_path / "config.json", THERE | there)
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    outcome = pytest.raises(ValueError, match=r"another config|is damaged: sweep is None")
    with outcome if refused else contextlib.nullcontext():
        sound = {name: section for name, section in there.items() if section is not None}
        workdir.check(tmp_path, THERE | sound | here, {"fingerprint": "f0"}, grows=True)


@pytest.mark.parametrize(
    ("files", "refused"), [("checkpoints/1", True), ("metrics.jsonl", True), ("log.txt", False)]
)
def test_a_supernet_of_turns_depends_on_the_sweep_too(tmp_path, files, refused):
    json_files.write_json(tmp_path / "config.json", THERE)
    (tmp_path / files).parent.mkdir(exist_ok=True)
    (tmp_path / files).touch()
    other, inputs = THERE | {"sweep": THERE["sweep"] | {"score": "kl"}}, {"fingerprint": "f0"}
    with pytest.raises(ValueError, match=r"sweep\.score") if refused else contextlib.nullcontext():
        workdir.check(tmp_path, other, inputs, grows=True, turns=True)


def test_a_supernet_that_was_trained_may_be_split_once(tmp_path):
    """In a folder of before `supernet.split`, too; not once there are parts, or candidates."""
    inputs = {"fingerprint": "f0"}
    workdir.open_workdir(tmp_path, THERE, inputs, grows=True)
    (tmp_path / "checkpoints").mkdir()

    def with_choices(*names):
        return THERE | {"supernet": THERE["supernet"] | {"split": {"choices": [*names]}}}

    for names in (("a",), ("b",)):
        workdir.open_workdir(tmp_path, with_choices(*names), inputs, grows=True)
    kept = json_files.read_json(tmp_path / "config.json")
    assert kept["supernet"]["split"]["choices"] == ["b"]
    (tmp_path / "split").mkdir()
    workdir.check(tmp_path, with_choices("b"), inputs, grows=True)
    with pytest.raises(ValueError, match=r"supernet\.split\.choices is \('b',\) there and"):
        workdir.check(tmp_path, with_choices("a"), inputs, grows=True)


def test_the_table_of_landmarks_decides_a_supernet(tmp_path):
    config = THERE | {"table": "t.csv"}
    for count, refused in ((0, False), (6, True)):
        landmarks = {"supernet": THERE["supernet"] | {"landmarks": {"count": count}}}
        json_files.write_json(tmp_path / "config.json", config | landmarks)
        (tmp_path / "checkpoints").mkdir(exist_ok=True)
        other = config | landmarks | {"table": "u.csv"}
        with pytest.raises(ValueError, match="table is") if refused else contextlib.nullcontext():
            workdir.check(tmp_path, other, {"fingerprint": "f0"}, grows=True)


def test_only_code_that_a_stage_has_used_must_stay(tmp_path):
    """An evaluator that failed is mended; the space of the supernet is not."""
    config = THERE | {
        "sweep": THERE["sweep"] | {"score": "ev.py:make"},
        "space": {"name": "sp.py:S"},
    }
    files = {"ev.py": "1", "sp.py": "1"}
    workdir.open_workdir(tmp_path, config, {"files": files, "fingerprint": "f0"}, grows=True)
    (tmp_path / "checkpoints").mkdir()
    workdir.check(tmp_path, config, {"files": files | {"ev.py": "2"}}, grows=True)
    with pytest.raises(ValueError, match="other code"):
        workdir.check(tmp_path, config, {"files": files | {"sp.py": "2"}}, grows=True)
    (tmp_path / "trials.jsonl").touch()
    with pytest.raises(ValueError, match="other code"):
        workdir.check(tmp_path, config, {"files": files | {"ev.py": "2"}}, grows=True)


def test_a_supernet_of_the_former_path_dropout_stays_refused_with_another_score(tmp_path):
    inputs = {"path_dropout": "second", "fingerprint": "f0"}
    workdir.open_workdir(tmp_path, THERE, {"fingerprint": "f0"}, grows=True)
    (tmp_path / "checkpoints").mkdir()
    other = THERE | {"sweep": THERE["sweep"] | {"score": "kl"}}
    with pytest.raises(ValueError, match="dropped paths"):
        workdir.check(tmp_path, other, inputs, grows=True)
    fair = {"supernet": THERE["supernet"] | {"sampler": "fair"}}
    json_files.write_json(tmp_path / "config.json", THERE | fair)
    workdir.check(tmp_path, other | fair, inputs, grows=True)


SELECTING = ("sweep.num_images", "sweep.batch_size")  # they select among members


@pytest.mark.parametrize(("pbt", "kept"), [([["population", 4]], SELECTING), ([], ())])
def test_final_networks_keep_to_what_their_populations_were(tmp_path, pbt, kept):
    """And so a population that was none; before there is a network, all may change."""
    config = {"retrain": {"final": {"pbt": pbt, "pbt_every": 5}}}
    fields = ("retrain.final.pbt", "retrain.final.pbt_every", *SELECTING)
    (tmp_path / "retrain" / "short").mkdir(parents=True)
    assert all(decided.Decided(tmp_path, config, False).may_be(name, 1) for name in fields)
    (tmp_path / "retrain" / "final").mkdir()
    there = decided.Decided(tmp_path, config, False)
    assert {name for name in fields if not there.may_be(name, 1)} == {*fields[:2], *kept}
    assert there.may_be("sweep.candidates_per_batch", 1)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({}, {}, []),
        ({"a": {"b": {"c": 1}}}, {"a": {"b": {"c": 1}}}, []),
        ({"a": {"b": {"c": 1}}}, {"a": {"b": {"c": 2}}}, ["a.b.c is 1 there and 2 here"]),
        ({"a": 1}, {"b": 1}, ["a is 1 there and 'absent' here", "b is 'absent' there and 1 here"]),
        ({"a": {"b": 1}}, {"a": 1}, ["a is {'b': 1} there and 1 here"]),
        ({"a": [1, 2]}, {"a": [1, 3]}, ["a is (1, 2) there and (1, 3) here"]),
    ],
)
def test_differences_name_nested_fields(old, new, expected):
    assert list(workdir.differences(old, new)) == expected


def test_status_says_what_is_known(tmp_path):
    workdir.set_status(tmp_path, "running", stage="sweep")
    workdir.set_status(tmp_path, "diverged", stage="supernet", error="the loss is nan")
    expected = {"status": "diverged", "stage": "supernet", "error": "the loss is nan"}
    assert json_files.read_json(tmp_path / "status.json") == expected
