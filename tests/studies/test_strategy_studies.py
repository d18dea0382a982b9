"""Comparisons of strategies, on made-up searches whose tables can be worked out by hand."""

import itertools
import json

import numpy as np
import pytest

from configs.studies import strategies as strategies_config
from nas_jax import build, pipeline, spaces, studies
from nas_jax.config import variants
from nas_jax.costs import params_flops
from nas_jax.storage import json_files, workdir
from nas_jax.studies import compare_strategies, regret
from nas_jax.studies.study import Study
from tests import browsing, trainings
from tests.configs import tiny, tiny_macro

pytestmark = pytest.mark.system

SPACE = spaces.make("nasbench_macro", stages=(1, 2), head=2)
EVERY = ["".join(digits) for digits in itertools.product("012", repeat=3)]
VARIANTS = (("random",), ("evolution", ("sweep.strategy", "evolution")))


def _study(config, directory, **fields):
    fields |= {"study.pool": str(directory / "pool"), "study.variants": VARIANTS}
    with config.unlocked():
        config.update_from_flattened_dict(fields)
    config, space, data = trainings.build(config)
    return Study(trainings.run_of(config, space, data, directory / "study")), config, space, data


def _table(path):
    """Architecture i of the 27 has 10 + i % by validation and 50 - i % by test."""
    lines = [f"{text},{10 + i},{50 - i}" for i, text in enumerate(EVERY)]
    header = "arch,digits_valid_accuracy,digits_test_accuracy"
    path.write_text("\n".join([header, *lines]) + "\n")
    return str(path)


def _fill(study, label, seed, numbers):
    """A search that asks for these architectures, valued as the table has them."""
    config = study.seeded()[label][seed]
    params = params_flops.of(SPACE, SPACE.from_strs(EVERY)).params.tolist()
    rows = [{"arch": EVERY[i], "value": (10 + i) / 100, "params": params[i]} for i in numbers]
    rows = [row | {"flops": 0, "num_images": 100} for row in rows]
    json_files.append_jsonl(study.store.search_folder(config) / "trials.jsonl", rows)


def _cells(text, row):
    line = next(line for line in text.splitlines() if line.startswith(f"| {row} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_regret_is_what_the_best_of_the_table_has_more(tmp_path):
    """Random search: seed 0 finds 26 (36 %), the best; seed 1 only 22 (32 %), so it misses 4.
    Evolution finds 24 and misses 2 both times: 2 more and 2 less than random search."""
    fields = {
        "table": _table(tmp_path / "table.csv"),
        "sweep.score": "table",
        "sweep.strategy": "random_search",
        "sweep.num_candidates": 4,
        "study.parts": ("regret",),
        "study.num_seeds": 2,
    }
    study, *run = _study(tiny_macro.get_config(), tmp_path, **fields)
    for label, seed, numbers in (
        ("random", 0, (10, 20, 5, 26)),
        ("random", 1, (22, 1, 2, 3)),
        ("evolution", 0, (24, 0, 0, 0)),
        ("evolution", 1, (1, 2, 3, 24)),
    ):
        _fill(study, label, seed, numbers)
    table = regret.tabular.load(study.config.table, SPACE)
    searches = study.searches()["random"]
    courses = [regret._course(table, 0.36, rows)[0] for rows in searches]
    np.testing.assert_allclose(courses, [[16, 6, 6, 0], [4, 4, 4, 4]])
    path = studies.study(trainings.run_of(*run, tmp_path / "study"))
    text = path.read_text()
    # mean 2, sd 2.83, n = 2: the interval is 12.71 standard errors of 2 either way
    assert _cells(text, "random")[2:5] == ["2.00 [-23.41, 27.41]", "", "26.00 [0.59, 51.41]"]
    expected = ["2.00", "0.00 [-25.41, 25.41]", "26.00"]  # equal ones have no interval
    assert _cells(text, "evolution")[2:5] == expected
    assert (path.parent / "regret.png").exists()


def test_strategies_are_compared_at_their_budget(tmp_path):
    """Two networks of each seed's search, trained by hand: architecture i reaches 40 % + i."""
    fields = {"study.parts": ("strategies",), "study.num_seeds": 2, "sweep.num_candidates": 8}
    fields |= {"space.name": "cell"}
    config = tiny.get_config()
    config.retrain.final.groups.update({"top": 2, "all_on": 0})
    study, *run = _study(config, tmp_path, **fields)
    archs = study.candidates[:8]
    for label, seed, first in (("random", 0, 0), ("random", 1, 2), ("evolution", 0, 2)):
        _fill_cells(study, label, seed, archs[first:] + archs[:first])
    _fill_cells(study, "evolution", 1, archs[4:] + archs[:4])
    for configs in study.seeded().values():
        for one in configs:
            workdir.set_status(study.store.supernet(one), "done")
    _fill_networks(study, {text: 40 + i for i, text in enumerate(archs)})
    text = studies.study(trainings.run_of(*run, tmp_path / "study")).read_text()
    assert "**Warning**: there are fewer than 5 seeds" in text
    # 40 steps of 32 images; 8 candidates of 128
    assert _cells(text, "random")[1:6] == ["2", "1,280", "8", "1,024", "2,304"]
    # size of the networks, not of the trials; 40.5 and 42.5; 42.5 and 44.5
    assert _cells(text, "random")[6:] == ["90.00 ± 0.00", "2.00", "41.50 ± 1.41", ""]
    assert _cells(text, "evolution")[8:] == ["43.50 ± 1.41", "2.00"]
    # the first two of each order, of which the one is random's second and evolution's first
    groups = ["random"] * 2 + ["random, evolution"] * 2 + ["evolution"] * 2
    assert _of_page(tmp_path, "groups") == groups[::-1]
    assert _of_page(tmp_path, "accuracy") == [45, 44, 43, 42, 41, 40]
    # a supernet that diverged has no search; its seed is left out on both sides
    with_own = variants.changed(study.config, "", [("supernet.sampler", "fair")])
    study.config.study.variants = (*VARIANTS, ("fair", ("supernet.sampler", "fair")))
    workdir.set_status(study.store.supernet(with_own), "diverged")
    other = variants.changed(with_own, "", [("seed", 1)])
    workdir.set_status(study.store.supernet(other), "done")
    again = Study(trainings.run_of(study.config, study.space, study.store.data, tmp_path / "again"))
    _fill_cells(again, "fair", 1, archs[6:] + archs[:6])
    text = studies.study(trainings.run_of(study.config, *run[1:], tmp_path / "again")).read_text()
    assert "## Supernets that diverged\n" in text
    assert "\n- fair, seed 0: `its loss is not finite`\n" in text
    assert _cells(text, "fair")[1] == "1"
    assert _cells(text, "fair")[8:] == ["46.50", "4.00"]  # 46.5 - 42.5
    assert (tmp_path / "study" / "report" / "strategies.png").exists()


def test_a_study_whose_supernet_diverged_says_so(tmp_path):
    study, *run = _study(tiny.get_config(), tmp_path, **{"study.parts": ("ranking",)})
    error = {"error": "supernet: the loss is nan by step 8"}
    for config in study.variants.values():
        workdir.set_status(study.store.supernet(config), "diverged", **error)
    message = r"'ranking' has nothing to compare, as supernets diverged: random; evolution; lower"
    with pytest.raises(ValueError, match=message):
        studies.study(trainings.run_of(*run, tmp_path / "study"))


def _fill_networks(study, accuracies):
    """Networks that were trained by hand, with these accuracies in per cent."""
    jobs = study.store.networks(
        study.config, "final", {"top": list(accuracies)}, study.how("final")
    )
    for directory, (text, filters, seed) in jobs.items():
        row = {"arch": text, "filters": filters, "seed": seed, "valid_accuracy": None}
        row |= {"test_accuracy": accuracies[text] / 100, "params": 2_000_000, "flops": 0}
        json_files.write_json(directory / "result.json", row)


def test_tuned_widths_are_compared_with_narrowed_ones(tmp_path):
    """The best of two searches: 50 and 60 % in full; tuned 46 and 55, narrowed 44 and 54."""
    fields = {"study.parts": ("widths",), "study.num_seeds": 2, "sweep.num_candidates": 8}
    config = tiny.get_config()
    config.retrain.final.groups.tuned = 1
    study, *run = _study(config, tmp_path, **fields)
    archs, accuracies = study.candidates[:2], {}
    for seed, (text, of_seed) in enumerate(zip(archs, ((50, 46, 44), (60, 55, 54)))):
        _fill_cells(study, "random", seed, [text] * 8)
        _fill_cells(study, "evolution", seed, [text] * 8)  # is not asked for widths
        tuned, narrowed = f"{text}@1", f"{text}@2"
        accuracies |= dict(zip((text, tuned, narrowed), of_seed))
        own = study.seeded()["random"][seed]
        workdir.set_status(study.store.supernet(own), "done")
        folder = study.store._widths_folder(own, text, 4, seed)
        costs = {"full": 4e6, "left": 3e6, "tuned": 2e6, "narrowed": 1.9e6}
        row = {"arch": text, "seed": seed, "resource": "flops", "costs": costs}
        row |= {"tuned": tuned, "narrowed": narrowed}
        row["widths"] = {"full": {"a": 4, "b": 4}, "left": {"a": 2}, "tuned": {"a": 1}}
        row["widths"]["narrowed"] = {"a": 2, "b": 2}
        json_files.write_json(folder / "widths.json", row)
    _fill_networks(study, accuracies)
    text = studies.study(trainings.run_of(*run, tmp_path / "study")).read_text()
    # tuned - narrowed is 2 and 1: mean 1.5, and 12.71 standard errors of 0.5 either way
    cells = ["2", "49.00 ± 7.07", "2.00", "0.00", "1.50 [-4.85, 7.85]"]
    assert _cells(text, "narrowed uniformly")[1:] == cells
    assert _cells(text, "full")[2:6:3] == ["55.00 ± 7.07", "-4.50 [-10.85, 1.85]"]
    assert _cells(text, "tuned by MorphNet")[2:6:3] == ["50.50 ± 6.36", ""]
    assert _of_page(tmp_path, "groups") == ["full", "tuned", "narrowed"] * 2
    assert _of_page(tmp_path, "accuracy") == [60, 55, 54, 50, 46, 44]
    for figure in ("widths", "widths_gains"):
        assert (tmp_path / "study" / "report" / f"{figure}.png").exists()


def _of_page(folder, column):
    """Values of a column of the networks on the page of the study."""
    html = (folder / "study" / "report" / "index.html").read_text()
    data = json.loads(browsing.packed(html, "data"))
    return data["networks"]["columns"][column]["values"]


def _fill_cells(study, label, seed, archs):
    """The first scores 0.9, the second 0.8, ..."""
    costs = {"params": 1e6, "flops": 0, "num_images": 100}
    rows = [{"arch": a, "value": 0.9 - 0.1 * i, **costs} for i, a in enumerate(archs)]
    folder = study.store.search_folder(study.seeded()[label][seed])
    json_files.append_jsonl(folder / "trials.jsonl", rows)


def test_a_controller_s_candidates_count(tmp_path):
    """40 steps, every 5 of them 8 candidates on 64 images."""
    study, config, *_ = _study(tiny.get_config(), tmp_path, **{"study.parts": ("strategies",)})
    config.sweep.strategy, config.supernet.sampler = "enas", "strategy"
    found = compare_strategies._budget(study, config)
    assert found == ["1,280", "104", f"{40 * 128 + 64 * 64:,}", f"{1280 + 40 * 128 + 64 * 64:,}"]


def test_a_population_s_images_count(tmp_path):
    """Four members of 40 steps; every 10 of them 8 candidates on 64 images, by each member."""
    study, config, *_ = _study(tiny.get_config(), tmp_path, **{"study.parts": ("strategies",)})
    config.supernet.variant = "pbt"
    with config.unlocked():
        config.supernet.variant_options = (("population", 4),)
    config.supernet.strategy_every = 10
    trained, scored = 4 * 40 * 32, 40 * 128 + 4 * 4 * 8 * 64
    found = [f"{trained:,}", "168", f"{scored:,}", f"{trained + scored:,}"]
    assert compare_strategies._budget(study, config) == found


def test_all_look_at_as_many_images(tmp_path):
    """In the study of the digits, up to a candidate's images; alphas learn from half of theirs."""
    config = strategies_config.get_config("digits")
    config.study.pool = str(tmp_path / "pool")
    study = Study(build.build_run(config, tmp_path / "study", num_devices=1))
    for label, one in variants.resolve(config).items():
        found = [int(n.replace(",", "")) for n in compare_strategies._budget(study, one)]
        assert 187_648 - config.sweep.num_images < found[-1] <= 187_648, label
        if label in ("DARTS", "GDAS"):
            steps = one.supernet.train.num_steps
            assert found == [steps * 64, 1, steps * 64 + 256, steps * 128 + 256]


def test_strategies_have_supernets_of_their_own_only_where_they_train_them(tmp_path):
    """A strategy, its options and its batches name the supernet that it trains."""
    study, config, *_ = _study(tiny.get_config(), tmp_path, **{"study.parts": ("strategies",)})
    store, folders = study.store, []
    for sampler in ("path_dropout", "strategy"):
        for strategy in ("random_search", "enas"):
            config.supernet.sampler, config.sweep.strategy = sampler, strategy
            folders.append(store.supernet(config))
    assert folders[0] == folders[1]
    assert len(set(folders)) == 3
    config.supernet.sampler = "path_dropout"
    for variant in ("smash", "pbt", "morphnet", "none"):
        config.supernet.variant = variant
        folders.append(store.supernet(config))
    assert len(set(folders)) == 6
    config.supernet.sampler = "strategy"
    folders.append(store.supernet(config))
    config.sweep.num_candidates += 1  # it decides the search alone
    assert store.supernet(config) == folders[-1]


@pytest.mark.parametrize(
    ("part", "fields", "message"),
    [
        ("regret", {}, "ranks by 'table'"),
        ("strategies", {"sweep.score": "table"}, "ranks by 'accuracy'"),
        ("strategies", {"sweep.latency.num_archs": 20}, "num_archs=20 must be 0 in a study"),
        ("widths", {"sweep.latency.table": "pi.csv"}, "table='pi.csv' must be '' in a study"),
        ("strategies", {"retrain.final.pbt": (("population", 2),)}, r"pbt must be \(\) in a study"),
        ("strategies", {"retrain.final.groups.top": 0}, r"groups\.top=0 of every search: 1 or"),
        ("strategies", {"retrain.final.filters": (4, 8)}, r"one width, not of filters=\(4, 8\)"),
        ("widths", {}, r"groups\.tuned=0 must be 1 or more"),
        ("strategies", {"study.num_seeds": 0}, "num_seeds=0 must be 1 or more"),
    ],
)
def test_what_studies_of_strategies_want(part, fields, message):
    config = tiny.get_config()
    with config.unlocked():
        config.update_from_flattened_dict(fields | {"study.parts": (part,)})
    with pytest.raises(ValueError, match=message):
        studies.check(config)


@pytest.mark.parametrize("field", ["sweep.latency.table", "sweep.latency.num_archs"])
def test_no_variant_has_latencies(field):
    config = tiny.get_config()
    config.study.variants = (("phone", (field, "pi.csv")),)
    with pytest.raises(ValueError, match=rf"'phone' sets config\.{field}: supernets may differ in"):
        variants.resolve(config)


def test_nothing_of_a_study_is_priced_by_latency():
    """Neither widths nor a supernet: the store would take those of another table for the same."""
    config = tiny.get_config()
    with config.unlocked():
        config.study.variants = (("one-shot model",),)
    config.study.parts, config.study.num_seeds = ("widths",), 1
    config.retrain.final.groups.tuned = 1
    config.retrain.widths.resource = "latency_ms"
    with pytest.raises(ValueError, match=r"resource='latency_ms' needs sweep\.latency\.num_archs"):
        pipeline.check_fields(config)
    config.sweep.latency.table = "pi.csv"
    with pytest.raises(ValueError, match=r"table='pi\.csv' must be '' .* 'flops' or 'params'"):
        pipeline.check_fields(config)
