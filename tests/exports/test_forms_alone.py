"""Networks of all spaces leave their workdir: each form runs where only its library is."""

import json

import numpy as np
import pytest

from nas_jax import spaces
from nas_jax.exports import folder
from nas_jax.spaces import arch_id
from tests.exports import alone, finished

pytestmark = pytest.mark.system

MACRO = {"name": "nasbench_macro", "stages": (1, 2), "head": 2}
CHAIN = {
    "name": "chain",
    "stages": ((1, 1, 1), (2, 2, 2)),
    "ops": ("identity", "mb3_k3", "mb6_k5", "maxpool"),
    "stem_stride": 1,
    "head": 0,
}
NASBENCH201 = {"name": "nasbench201", "num_cells": 1, "num_stages": 2}
CELL = {"name": "cell", "num_cells": 2, "num_blocks": 2, "cells_per_stage": 1}
CELL["ops"] = ("identity", "sep3x3", "maxpool")
EDGES = "|nor_conv_3x3~0|+|skip_connect~0|avg_pool_3x3~1|+|none~0|nor_conv_1x1~1|skip_connect~2|"
RUNS = {  # section `space`, architecture, whether the network has widths of its own
    "cell": (CELL, finished.CELL, False),
    "cell, widths": (CELL, finished.CELL, True),
    "nasbench201": (NASBENCH201, EDGES, False),
    "nasbench_macro": (MACRO, "012", False),
    "nasbench_macro, widths": (MACRO, "120", True),
    "chain": (CHAIN, "mb3_k3|maxpool|mb6_k5", False),
    "chain, widths": (CHAIN, "identity|mb6_k5|identity", True),
}
FORMS = {  # what may be imported; a function logits(folder, images) -> float32 [B, K]
    "model.py": (
        ("jax", "flax", "safetensors"),
        """
import importlib.util
def logits(folder, images):
    spec = importlib.util.spec_from_file_location("model", folder + "/model.py")
    model = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(model)
    module, variables = model.load(folder + "/params.safetensors")
    found = module.apply(variables, images)
    classes, probabilities = model.predict(images)
    assert classes == [model.CLASS_NAMES[i] for i in found.argmax(-1)]
    return found
""",
    ),
    "model.stablehlo": (
        ("jax", "flatbuffers"),
        """
import jax.export
def logits(folder, images):
    exported = jax.export.deserialize(bytearray(open(folder + "/model.stablehlo", "rb").read()))
    assert exported.platforms == ("cpu", "cuda", "tpu")
    return exported.call(images)
""",
    ),
    "model.onnx": (
        ("onnxruntime", "numpy"),
        """
import onnxruntime
def logits(folder, images):
    return onnxruntime.InferenceSession(folder + "/model.onnx").run(None, {"images": images})[0]
""",
    ),
}
EACH = """
import numpy as np
for folder in sys.argv[2:]:
    images = np.load(folder + "/../images.npy")
    np.save(folder + "/../logits.npy", np.asarray(logits(folder, images)))
    np.save(folder + "/../one.npy", np.asarray(logits(folder, images[:1])))  # any batch
print(sorted(sys.modules))
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """{name: (workdir, folder of the export)}; the images lie beside that folder."""
    made = {}
    for name, (fields, text, has_widths) in RUNS.items():
        directory = tmp_path_factory.mktemp("spaces") / "run"
        if has_widths:
            text = finished.with_widths(spaces.make(**fields), text)
        finished.make(directory, {"final": [text]}, fields)
        path = folder.export(directory, folder=directory.parent / "exported")
        np.save(directory.parent / "images.npy", _wanted(directory, text)[0])
        made[name] = directory, text, path
    return made


def _wanted(directory, text):
    return finished.logits_of(directory, f"{arch_id(text)}-final-F4-seed0")


@pytest.mark.parametrize("form", FORMS)
def test_a_form_needs_its_library_alone(form, exported, tmp_path):
    libraries, code = FORMS[form]
    folders = [path for *_, path in exported.values()]
    printed = alone.run(code + EACH, libraries, *folders, cwd=tmp_path)
    assert "'nas_jax" not in printed
    for directory, text, path in exported.values():
        _, wanted = _wanted(directory, text)
        logits, one = (np.load(path.parent / f"{name}.npy") for name in ("logits", "one"))
        finished.assert_same(logits, wanted)
        finished.assert_same(one, wanted[:1])


@pytest.mark.parametrize("name", RUNS)
def test_exports_of_all_spaces_are_verified(name, exported):
    _, text, path = exported[name]
    about = json.loads((path / "model.json").read_text())
    checked, (fields, arch, has_widths) = about["verification"], RUNS[name]
    assert checked["verified"]
    assert not about["not_written"]
    assert set(checked["forms"]) == set(FORMS)
    assert checked["accuracy"]["accuracy"] == about["result"]["test_accuracy"]
    assert (about["architecture"], about["space"]["name"]) == (arch, fields["name"])
    assert about["result"]["arch"] == text
    assert (about["widths"] is not None) == has_widths
