"""What an export says of itself, which network it is of, and what it refuses."""

import hashlib
import json
import logging
import shutil
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp
import pytest
from safetensors import numpy as safetensors

import nas_jax
from nas_jax.exports import choosing, forms, model
from nas_jax.exports.workdirs import Workdir
from nas_jax.spaces import arch_id
from nas_jax.storage import json_files
from tests import launching
from tests.exports import finished

EXAMPLES = Path(__file__).parents[2] / "examples"


def about(path):
    return json.loads((path / "model.json").read_text())


def test_model_json_says_what_the_network_is_and_how_it_was_verified(run, exported):
    said = about(exported)
    assert exported == run / "export" / f"{arch_id(finished.CELL)}-final-F4-seed0"
    assert (said["architecture"], said["filters"], said["widths"]) == (finished.CELL, 4, None)
    assert said["drawing"][0] == "  block 0: sep3x3 + maxpool of previous cell + cell before"
    assert said["space"] == json.loads((run / "config.json").read_text())["space"]
    assert said["class_names"] == [str(digit) for digit in range(10)]
    data = json.loads((run / "data.json").read_text())
    for name in ("mean", "std"):
        assert said["preprocessing"][name] == data[name]
    result = json_files.read_json(
        run / "retrain/final/F4" / arch_id(finished.CELL) / "seed0/result.json"
    )
    assert said["result"] == result
    checked = said["verification"]
    assert checked["verified"]
    assert checked["compared_on"] == {"images": "test", "num_images": 128}
    assert checked["accuracy"]["accuracy"] == result["test_accuracy"]
    for name in (forms.PLAIN, forms.STABLEHLO, forms.ONNX):
        assert checked["forms"][name]["largest_relative_difference"] <= 1e-5
        assert checked["forms"][name]["classes_equal"]
    for name in forms.ALL:
        assert said["files"][name] == hashlib.sha256((exported / name).read_bytes()).hexdigest()
    arrays = safetensors.load_file(exported / forms.PARAMS)
    assert sum(a.size for n, a in arrays.items() if n.startswith("params/")) == result["params"]


def test_an_export_is_the_same_again(run, exported, tmp_path):
    again = nas_jax.export(nas_jax.read(run), folder=tmp_path / "again")
    assert about(again)["files"] == about(exported)["files"]
    assert nas_jax.export(run, "group:top") == [exported]


def test_networks_by_architecture_id_and_group(run):
    def chosen(network):
        return [one.name for one in choosing.choose(Workdir(run), network)[0]]

    cell, other = arch_id(finished.CELL), arch_id(finished.OTHER_CELL)
    assert chosen("best") == chosen(finished.CELL) == chosen(cell) == [f"{cell}-final-F4-seed0"]
    assert chosen(finished.OTHER_CELL) == [f"{other}-short-F4-seed0"]
    assert chosen("group:top") == [f"{cell}-final-F4-seed0"]
    assert chosen("1,0>maxpool,sep3x3|2,0>sep3x3,identity") == [f"{cell}-final-F4-seed0"]


def write(directory, protocol, text, seed=0, filters=4, start="seed", **accuracies):
    """A result.json alone: enough to be chosen."""
    path = directory / f"retrain/{protocol}/F{filters}/{arch_id(text)}/{start}{seed}/result.json"
    row = {"valid_accuracy": None, "test_accuracy": None, **accuracies}
    row |= {"arch": text, "filters": filters, "seed": seed, "params": 1, "flops": 1}
    row |= {"init": "supernet"} if start == "warm" else {}
    json_files.write_json(path, row)


def test_the_best_is_by_validation_where_there_is_one(run, tmp_path):
    """Final networks by the short ones, then by the sweep; by test images if nothing is left."""
    shutil.copy(run / "config.json", tmp_path)
    a, b = finished.CELL, finished.OTHER_CELL
    write(tmp_path, "final", a, test_accuracy=0.9)
    write(tmp_path, "final", b, test_accuracy=0.8, seed=1)
    write(tmp_path, "final", b, test_accuracy=0.7)
    write(tmp_path, "final", b, test_accuracy=0.6, filters=8)
    space = Workdir(run).space
    write(tmp_path, "final", space.to_str(space.all_on()), test_accuracy=0.95)  # no candidate

    def best():
        (one,), why = choosing.choose(Workdir(tmp_path), "best")
        return one.result["arch"], one.result["filters"], one.result["seed"], why

    assert best() == (a, 4, 0, "the best of 4 final networks, by accuracy on test images")
    trial = {"params": 1, "flops": 1, "num_images": 8}
    rows = [{"arch": a, "value": 0.1, **trial}, {"arch": b, "value": 0.2, **trial}]
    json_files.append_jsonl(tmp_path / "trials.jsonl", rows)
    assert best()[:3] == (b, 8, 0)
    assert (
        "short network to compare); of equal ones that of the largest F, then of the first seed"
        in best()[3]
    )
    write(tmp_path, "short", a, valid_accuracy=0.5)
    write(tmp_path, "short", b, valid_accuracy=0.4)
    assert best()[:3] == (a, 4, 0)
    assert "accuracy on validation images (protocol short)" in best()[3]
    shutil.rmtree(tmp_path / "retrain/final")
    assert best()[:3] == (a, 4, 0)


@pytest.mark.parametrize("start", ["warm", "named"])
def test_what_the_config_named_is_taken_by_its_name_or_where_there_is_no_other(
    start, run, tmp_path
):
    """It is in no group, and does not count as the network of its architecture."""
    shutil.copy(run / "config.json", tmp_path)
    json_files.write_json(tmp_path / "retrain/final/selection.json", {"top": [finished.CELL]})
    write(tmp_path, "final", finished.CELL, test_accuracy=0.9, start=start)
    mine = f"{arch_id(finished.CELL)}-final-F4-{start}0"

    def chosen(network):
        networks, _ = choosing.choose(Workdir(tmp_path), network)
        return [one.name for one in networks]

    assert chosen("best") == chosen(finished.CELL) == [mine]
    with pytest.raises(ValueError, match="has no network of that group"):
        chosen("group:top")
    write(tmp_path, "final", finished.CELL, seed=1, test_accuracy=0.5)
    of_group = [mine.replace(f"{start}0", "seed1")]
    for network in ("best", finished.CELL, arch_id(finished.CELL), of_group[0], "group:top"):
        assert chosen(network) == of_group
    assert chosen(mine) == [mine]


def test_a_network_that_the_config_named_does_not_make_test_images_choose(run, tmp_path):
    """No sweep has its architecture; the others are compared by what they have all the same."""
    shutil.copy(run / "config.json", tmp_path)
    a, b = finished.CELL, finished.OTHER_CELL
    for text, value, accuracy in ((a, 0.1, 0.9), (b, 0.2, 0.8)):
        write(tmp_path, "final", text, test_accuracy=accuracy)
        row = {"arch": text, "value": value, "params": 1, "flops": 1, "num_images": 8}
        json_files.append_jsonl(tmp_path / "trials.jsonl", [row])
    write(tmp_path, "final", "0>identity|0>identity", test_accuracy=0.95, start="named")
    (one,), why = choosing.choose(Workdir(tmp_path), "best")
    assert one.result["arch"] == b
    words = (
        "the values of their architectures in the sweep (not all have a short network to compare)"
    )
    assert why == f"the best of 2 final networks, by {words}"


def test_a_form_that_differs_is_named_and_nothing_is_deleted(run, tmp_path, monkeypatch, caplog):
    """One weight of the plain form is changed by a thousandth of its size."""
    write_params = forms.save_params

    def slightly_wrong(path, arrays):
        arrays["params/final/conv/kernel"] = arrays["params/final/conv/kernel"] * 1.001
        write_params(path, arrays)

    monkeypatch.setattr(forms, "save_params", slightly_wrong)
    with pytest.raises(ValueError, match=r"model\.py does not do what the network does: logits"):
        nas_jax.export(run, folder=tmp_path / "wrong")
    said = about(tmp_path / "wrong")
    assert not said["verification"]["verified"]
    assert said["verification"]["forms"][forms.PLAIN]["largest_relative_difference"] > 1e-5
    assert {*forms.ALL} <= {path.name for path in (tmp_path / "wrong").iterdir()}
    with caplog.at_level(logging.WARNING, "nas_jax"):
        nas_jax.load(tmp_path / "wrong")
    (warning,) = [record.message for record in caplog.records]
    why = "model.py does not do what the network does: logits differ"
    assert warning.startswith(f"model={tmp_path}/wrong is unverified: {why}")


def test_another_accuracy_is_refused_by_the_command(run, tmp_path):
    """result.json says 12.5 points more than the weights reach: exit code 2, files stay."""
    there = finished.copied(run, tmp_path)
    (path,) = there.glob("retrain/final/*/*/*/result.json")
    right = json_files.read_json(path)["test_accuracy"]
    finished.changed(path, test_accuracy=right + 0.125)
    code, errors = launching.main("--mode=export", f"--workdir={there}")
    assert code == 2
    assert f"accuracy is {right:.4f} on 128 images of test, not {right + 0.125:.4f}" in errors
    (said,) = there.glob("export/*/model.json")
    assert not json_files.read_json(said)["verification"]["verified"]


@pytest.mark.system
def test_the_network_is_exported_as_it_was_evaluated(tmp_path):
    """At bfloat16, with moving means of the weights, other batch norms, another metric."""
    fields = {"retrain__final__train__ema": 0.5, "network__dtype": "bfloat16"}
    fields |= {"network__relu_before_bn": True, "metric": "macro_f1"}
    finished.make(tmp_path, {"final": [finished.OTHER_CELL]}, **fields)
    path = nas_jax.export(tmp_path)
    said = about(path)
    again = said["verification"]["accuracy"]
    assert said["verification"]["verified"]
    assert again["dtype"] == "bfloat16"
    assert again["accuracy"] == said["result"]["test_accuracy"]
    assert again["macro_f1"] == said["result"]["test_macro_f1"]
    (one,) = Workdir(tmp_path).finished
    with ocp.StandardCheckpointer() as checkpointer:
        saved = checkpointer.restore(one.path / "checkpoints" / "2" / "default")
    exported = safetensors.load_file(path / forms.PARAMS)["params/classifier/kernel"]
    np.testing.assert_array_equal(exported, saved["average"]["params"]["classifier"]["kernel"])
    assert (exported != saved["params"]["classifier"]["kernel"]).any()


@pytest.mark.system
def test_networks_of_a_whole_search_are_exported(tmp_path):
    """They were trained together, in the program of their supernet; all by the command."""
    short = {"supernet.train.num_steps": 10, "sweep.num_candidates": 8}
    given = [f"--config.{name}={value}" for name, value in short.items()]
    workdir = f"--workdir={tmp_path}"
    assert launching.main("--config=tests/configs/tiny.py", workdir, *given) == (0, "")
    assert json_files.read_json(tmp_path / "retrain/final/compile.json") == {"compile": "together"}
    for network in ("best", "group:stratified"):
        assert launching.main("--mode=export", workdir, f"--network={network}") == (0, "")
    protocols = sorted(path.name.split("-")[1] for path in (tmp_path / "export").iterdir())
    assert protocols == ["final", "short"]
    for path in (tmp_path / "export").iterdir():
        assert about(path)["verification"]["verified"]
    assert launching.main("--mode=report", workdir) == (0, "")


@pytest.mark.parametrize("why", ["cannot be read", "has changed"])
def test_without_its_images_an_export_is_unverified(why, run, tmp_path, caplog):
    there = finished.copied(run, tmp_path)
    config = json_files.read_json(there / "config.json")
    if why == "has changed":
        config["data"]["digits"]["noise"] = 0.2
    else:
        config["data"]["name"] = f"folder:{tmp_path}/gone"
    json_files.write_json(there / "config.json", config)
    with caplog.at_level(logging.WARNING, "nas_jax"):
        path = nas_jax.export(there)
    (warning,) = [record.message for record in caplog.records]
    assert f"unverified: the data set {why}" in warning
    checked = about(path)["verification"]
    assert not checked["verified"]
    assert why in checked["why_not"]
    caplog.clear()
    nas_jax.load(path)
    (warning,) = [record.message for record in caplog.records]
    assert warning == f"model={path} is unverified: {checked['why_not']}"
    assert checked["compared_on"] == {"images": "random pixels", "num_images": 64}
    assert all(form["equal"] for form in checked["forms"].values())


@pytest.mark.parametrize(
    ("space", "text", "reason"),
    [
        (
            {
                "name": "chain",
                "stages": (1, 2),
                "ops": ("mb3_k3", f"{EXAMPLES}/own_op.py:SqueezeExcite"),
            },
            "SqueezeExcite|mb3_k3|SqueezeExcite",
            "the op 'SqueezeExcite' is not of this package",
        ),
        (
            {"name": f"{EXAMPLES}/own_space.py:Blocks", "depth": 1},
            "conv1",
            "the space Blocks is not of this package",
        ),
    ],
)
def test_parts_of_ones_own_have_the_other_forms(space, text, reason, tmp_path, caplog):
    """The program of the network itself, and its arrays by their own names."""
    if "stages" in space:
        space |= {"stem_stride": 1, "head": 0}
    finished.make(tmp_path / "run", {"final": [text]}, space)
    with caplog.at_level(logging.WARNING, "nas_jax"):
        path = nas_jax.export(tmp_path / "run")
    said = about(path)
    assert said["not_written"][forms.PLAIN] == f"the network has no plain form: {reason}"
    assert caplog.records[0].message.startswith(f"export without {forms.PLAIN}: ")
    assert not (path / forms.PLAIN).exists()
    assert set(said["verification"]["forms"]) == {forms.STABLEHLO, forms.PARAMS}
    assert said["verification"]["verified"]
    name = f"{arch_id(text)}-final-F4-seed0"
    images, wanted = finished.logits_of(tmp_path / "run", name)
    finished.assert_same(
        np.log(model.load(path).predict(images).probabilities), _log_softmax(wanted)
    )
    arrays = safetensors.load_file(path / forms.PARAMS)
    assert "params/classifier/kernel" in arrays


def _log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def test_without_the_extra_the_other_forms_are_written(run, tmp_path, monkeypatch):
    monkeypatch.setattr(forms, "has_onnx", lambda: False)
    said = about(nas_jax.export(run, folder=tmp_path / "there"))
    assert said["not_written"] == {forms.ONNX: "pip install 'nas_jax[onnx]' writes it"}
    assert forms.ONNX not in said["files"]
    assert said["verification"]["verified"]
