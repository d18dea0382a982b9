"""What benchmarks/gpu_runbook.sh needs beside its shell: its summary, results as JSON, packing.

python -m benchmarks.gpu_runbook environment OUT          what is here; fails if something lacks
python -m benchmarks.gpu_runbook state OUT PIECE
python -m benchmarks.gpu_runbook note OUT PIECE CODE SECONDS
python -m benchmarks.gpu_runbook {training,scores,ranking,networks} OUT PIECE WORKDIR
python -m benchmarks.gpu_runbook exported OUT PIECE WORKDIR NETWORK
python -m benchmarks.gpu_runbook bandwidth OUT
python -m benchmarks.gpu_runbook tests OUT JUNIT_XML
python -m benchmarks.gpu_runbook pack OUT FOLDER
python -m benchmarks.gpu_runbook unpack OUT               of OUT/carry, where OUT has nothing yet
"""

import configparser
import json
import os
import platform
import re
import statistics
import sys
import time
import xml.etree.ElementTree as ElementTree
from argparse import Namespace
from importlib import metadata
from pathlib import Path

from benchmarks import carry

STATES = {0: "done", 77: "skipped", 137: "unfinished", 143: "unfinished"}  # by exit code
RESAMPLES = 200  # for an interval of tau: as many as thousands of architectures get anyway
EXPORTED_AT_ONCE = 500  # images
EXPORTED_OFF = 1e-4  # of the largest logit; another device adds in another order
GOOD_SCORE = 0.80  # of whose share the paper speaks


# -- the summary ----------------------------------------------------------------------------------


def environment(out: Path) -> None:
    """Write environment.json. Exits where a package is missing, or there is no GPU to measure."""
    missing = list(_missing())
    if missing:
        sys.exit(f"gpu_runbook.sh: error: {', '.join(missing)} missing; give their WHEELS")
    from benchmarks import harness  # imports JAX

    found = {
        "python": platform.python_version(),
        "device": harness.device_name(),
        "commit": harness.commit(),
        **{name: _version(name) for name in ("jax", "jaxlib", "flax", "torch")},
    }
    _write(out / "environment.json", found)
    if not os.environ.get("DRY") and harness.jax.default_backend() == "cpu":
        sys.exit("gpu_runbook.sh: error: JAX sees no GPU here; --dry-run tries it all on a CPU")


def _missing():
    """Packages of setup.cfg, and pytest, that are not installed."""
    settings = configparser.ConfigParser()
    settings.read("setup.cfg")
    lines = [*settings["options"]["install_requires"].split("\n"), "pytest", "pytest-xdist"]
    names = (re.match(r"[\w.-]*", line)[0] for line in lines)
    return (name for name in names if name and _version(name) is None)


def _version(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def state(out: Path, piece: str) -> None:
    """Print how a piece ended; nothing if it was not begun."""
    print(_summary(out).get(piece, {}).get("state", ""))


def note(out: Path, piece: str, code: str, seconds: str) -> None:
    """Write what came of a piece into summary.json, and print it."""
    summary = _summary(out)
    old, here = summary.get(piece, {}), _read(out / "environment.json")
    ended = STATES.get(int(code), "failed")
    row = {
        "state": ended,
        "reason": _reason(out, piece, ended),
        "command": list(dict.fromkeys(_lines(out / piece / "commands"))),
        "commit": here["commit"],
        "device": here["device"],
        "seconds": old.get("seconds", 0) + int(seconds),
        "calls": old.get("calls", 0) + 1,
        "results": sorted(str(p.relative_to(out)) for p in (out / piece).glob("*.jsonl")),
        "time": time.strftime("%Y-%m-%dT%H:%M:%S"),
    }
    _write(out / "summary.json", summary | {piece: row})
    print(ended + (f" ({row['reason']})" if row["reason"] else ""))


def _reason(out, piece, ended):
    if ended == "skipped":
        return " ".join(_lines(out / piece / "reason"))
    if ended == "failed":
        lines = [line for line in reversed(_lines(out / "logs" / f"{piece}.log")) if line]
        # JAX and PyTorch say more after the line that says what was wrong.
        telling = [line for line in lines if re.search(r"rror\b", line)] or lines or [""]
        return telling[0][:300]
    return ""


def _summary(out):
    return _read(out / "summary.json")


# -- results --------------------------------------------------------------------------------------


def training(out: Path, piece: str, directory: Path) -> None:
    """How far a supernet's training is, what it says and how fast it was."""
    from nas_jax.storage import json_files

    rows = json_files.read_jsonl(directory / "metrics.jsonl")
    if rows:
        speeds = [row["images_per_second"] for row in rows]
        facts = {**rows[-1], "images_per_second": statistics.median(speeds)}
        _record(out, piece, "training", directory, **facts)


def scores(out: Path, piece: str, directory: Path) -> None:
    """How the candidates' scores are distributed."""
    from nas_jax.report import analysis
    from nas_jax.storage import json_files

    rows = json_files.read_trials(directory / "trials.jsonl")
    values = [row["value"] for row in rows if row["value"] is not None]
    if values:
        facts = analysis.summary(values)._asdict()
        share = sum(value >= GOOD_SCORE for value in values) / len(values)
        facts |= {"share_at_least": {GOOD_SCORE: share}, "without_score": len(rows) - len(values)}
        _record(out, piece, "scores", directory, **facts)


def ranking(out: Path, piece: str, directory: Path) -> None:
    """Kendall's tau of scores and published accuracies: over all, the top half, the top tenth."""
    import numpy as np

    from nas_jax.report import analysis, score_bias

    for networks in _results(directory).samples.values():
        columns = ("one_shot", "flops", "params", "accuracy")
        given = {name: np.array([getattr(n, name) for n in networks]) for name in columns}
        truth = given.pop("accuracy")
        for part, numbers in score_bias.parts(truth).items():
            taus = {
                name: analysis.rank_correlations(
                    values[numbers], truth[numbers], num_resamples=RESAMPLES
                ).kendall
                for name, values in given.items()
            }
            _record(out, piece, f"tau, {part}", directory, n=len(numbers), kendall=taus)


def networks(out: Path, piece: str, directory: Path) -> None:
    """Test accuracies of stand-alone networks, by group."""
    for (filters, group), found in _results(directory).final.items():
        means = [network.accuracy for network in found]
        facts = {
            "n": len(found),
            "accuracy": statistics.fmean(means),
            "accuracies": means,
            "params": [network.params for network in found],
            "one_shot": [network.one_shot for network in found],
        }
        _record(out, piece, f"{group}, F = {filters}", directory, unit="per cent", **facts)


def exported(out: Path, piece: str, directory: Path, folder: Path) -> None:
    """What an exported network's StableHLO does on this device: its accuracy, and how far its
    logits are off those of a CPU.

    Exits where it is not the network: another accuracy, or logits further off than rounding.
    """
    import jax
    import numpy as np

    from nas_jax.exports import about, forms
    from nas_jax.exports.workdirs import Workdir

    said, (data, why) = about.read(folder)["verification"], Workdir(directory).read_data
    if data is None or not said["verified"]:
        sys.exit(f"error: {folder} is not verified: {said['why_not'] or why}")
    wanted, function = said["accuracy"], jax.jit(forms.read_stablehlo(folder / forms.STABLEHLO))
    right, off = 0, 0.0
    for number, (images, truth) in enumerate(data.in_order(wanted["split"], EXPORTED_AT_ONCE)):
        logits = np.asarray(function(images))
        right += int((logits.argmax(-1) == truth).sum())
        if not number:
            with jax.default_device(jax.devices("cpu")[0]):
                on_cpu = np.asarray(function(images))
            off = float(np.abs(logits - on_cpu).max() / np.abs(on_cpu).max())
    accuracy, count = right / wanted["num_images"], wanted["num_images"]
    differing = round(abs(accuracy - wanted["accuracy_of_result_json"]) * count)
    facts = {
        "platform": jax.default_backend(),
        "accuracy": accuracy,
        **{name: wanted[name] for name in ("split", "num_images", "accuracy_of_result_json")},
        "differs_by_images": differing,
        "logits_off_by": off,
        "page": (directory / "report" / "index.html").exists(),
    }
    _record(out, piece, "exported", directory, **facts)
    if differing > wanted["may_differ_by_images"] or off > EXPORTED_OFF:
        sys.exit(f"error: on {facts['platform']} it is another network: {facts}")


def _results(directory):
    from nas_jax import spaces
    from nas_jax.report import results

    config = _read(directory / "config.json")
    return results.RunResults(directory, spaces.make(**config["space"]))


def bandwidth(out: Path) -> None:
    """Share of the bandwidth of a copy that each form of scoring takes: by XLA's count of bytes
    (of "masked" only: others have loops, of which XLA counts one turn), and by the least there are.
    """
    (copy,) = (row for row in _rows(out / "device") if row["case"].startswith("copy"))
    for row in _rows(out / "scoring"):
        if "least_bytes" not in row:
            continue
        for name, seconds in row["seconds"].items():
            took, counted = statistics.median(seconds), row["xla_bytes"].get(name)
            moved = {"least": row["least_bytes"], "xla": counted if name == "masked" else None}
            shares = {k: v and v / took / copy["rates"]["copy"] for k, v in moved.items()}
            case = f"{name}, {row['candidates']} candidates, {row['images']} images"
            rate = row["rates"][name]
            _record(out, "scoring", case, out, "bandwidth", share=shares, rate=rate)


def tests(out: Path, xml: Path) -> None:
    """How many tests passed, and which did not."""
    suite = ElementTree.parse(xml).getroot().find("testsuite")
    counts = {name: int(suite.get(name)) for name in ("tests", "failures", "errors", "skipped")}
    failed = [
        f"{case.get('classname')}::{case.get('name')}"
        for case in suite.iter("testcase")
        if case.find("failure") is not None or case.find("error") is not None
    ]
    facts = {**counts, "failed": failed, "seconds": float(suite.get("time"))}
    _record(out, "tests", "tests", xml, **facts)


_begun: set[Path] = set()  # files that this process writes anew


def _record(out, piece, case, read, name="", **facts):
    """A line in PIECE/<name of the function that asks>.jsonl, as the benchmarks write them."""
    from benchmarks import harness

    path = out / piece / f"{name or case.partition(',')[0].replace(' ', '_')}.jsonl"
    if path not in _begun:
        path.unlink(missing_ok=True)
        _begun.add(path)
    args = Namespace(name=piece, output=str(path), read=str(read))
    harness.record(args, case, device=_read(out / "environment.json")["device"], **facts)


# -- files ----------------------------------------------------------------------------------------


def pack(out: Path, folder: Path) -> None:
    """See `carry.pack`."""
    carry.pack(out, folder)


def unpack(out: Path) -> None:
    """See `carry.unpack`; where there is a summary, nothing is unpacked."""
    if not (out / "summary.json").exists():
        carry.unpack(out / "carry", out)


def _rows(folder):
    files = sorted(folder.glob("*.jsonl"))
    return [json.loads(line) for file in files for line in _lines(file)]


def _lines(path):
    return path.read_text().splitlines() if path.exists() else []


def _read(path):
    return json.loads(path.read_text()) if path.exists() else {}


def _write(path, value):
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(json.dumps(value, indent=2) + "\n")
    temporary.replace(path)


COMMANDS = {
    function.__name__: function
    for function in (
        *(environment, state, note, training, scores, ranking, networks, exported),
        *(bandwidth, tests, pack, unpack),
    )
}
PATHS = ("out", "directory", "folder", "xml")

if __name__ == "__main__":
    command, *given = sys.argv[1:]
    function = COMMANDS[command]
    names = function.__code__.co_varnames
    function(*(Path(text) if name in PATHS else text for name, text in zip(names, given)))
