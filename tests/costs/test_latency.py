"""Estimates of latencies that are poor are said to be."""

import logging

import pytest

from nas_jax import spaces
from nas_jax.costs import latency
from nas_jax.report import page
from nas_jax.storage import json_files

SPACE = spaces.make("cell", num_cells=1, num_blocks=1, ops=("identity", "maxpool"))
ARCHS = ("0>identity", "0,1>maxpool")
SIZE = {"filters": 1, "image_size": 2, "num_classes": 2, "channels": 1}
GOOD, POOR = {"error_percent": 25.0, "spearman": 0.5}, {"error_percent": 47.0, "spearman": -0.3}


def _file(directory, **fields):
    """latency.json of estimates as good as that."""
    options = {"block0_inputs": [0.1, 0.2], "block0_ops": [0.0, 0.3]}
    found = {"num_archs": 40, "base_ms": 1.0, "options_ms": options}
    found |= {"image_size": [2, 2], "batch_size": 1, "device": "cpu"}
    path = directory / "latency.json"
    json_files.write_json(path, found | fields)
    return path


CASES = [
    (GOOD, ""),
    ({"error_percent": 9.4}, ""),  # an older file
    ({"error_percent": 25.1}, "median error of 25.1 %: raise sweep.latency.num_archs"),
    (GOOD | {"error_percent": 25.1}, "25.1 % and a rank correlation (Spearman) of 0.50: raise"),
    (GOOD | {"spearman": 0.49}, "25.0 % and a rank correlation (Spearman) of 0.49: raise"),
    (GOOD | {"spearman": float("nan")}, "a rank correlation (Spearman) of none: raise"),
    (POOR, "47.0 % and a rank correlation (Spearman) of -0.30: raise sweep.latency.num_archs"),
]


@pytest.mark.parametrize(("fields", "expected"), CASES)
def test_a_poor_estimate_is_warned_of(tmp_path, caplog, fields, expected):
    """Whenever it is used: what is in the file is read by every process of a run."""
    path = _file(tmp_path, **fields)
    found = latency.per_option(SPACE, path, num_archs=40, batch_size=1, **SIZE)
    assert found["block0_ops"].tolist() == [0.0, 0.3]
    warned = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warned) == bool(expected)
    assert all(expected in line and str(path) in line for line in warned)


@pytest.mark.parametrize("fields", [GOOD, POOR])
def test_a_report_says_how_good_its_latencies_are(tmp_path, fields):
    _file(tmp_path, **fields)
    rows = [
        {"arch": text, "value": 0.5, "params": 9, "flops": 9, "num_images": 9, "latency_ms": 1.5}
        for text in ARCHS
    ]
    json_files.append_jsonl(tmp_path / "trials.jsonl", rows)
    text = page.write(tmp_path, SPACE).read_text()
    error, ranks = fields["error_percent"], fields["spearman"]
    assert f"median error of {error:.1f} % and a rank correlation (Spearman) of {ranks:.2f}" in text
    assert ("**These estimates are poor" in text) == (fields is POOR)
