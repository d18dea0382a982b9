"""The folder of an exported network: its forms, and model.json, which says what they are.

    model.json           architecture, classes, preprocessing, accuracies, versions, verification
    params.safetensors   and the other forms, see `nas_jax.exports.forms`

The folder needs neither the workdir nor, but for `nas_jax.load`, this package.
"""

import hashlib
import logging
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

import nas_jax
from nas_jax.costs import widths
from nas_jax.data.dataset import Data
from nas_jax.exports import choosing, forms, verification
from nas_jax.exports.workdirs import Finished, Workdir
from nas_jax.exports.written import Written
from nas_jax.report.architecture import Architecture
from nas_jax.runtime import environment
from nas_jax.spaces import Space
from nas_jax.standalone.retrain import CLEAR_EVERY
from nas_jax.storage import file_paths, json_files
from nas_jax.storage import workdir as workdir_lib

logger = logging.getLogger(__name__)

FILE, FORMAT = "model.json", 1


def export(
    workdir: Any,
    network: str = choosing.BEST,
    folder: str | Path | None = None,
    *,
    space: Space | None = None,
    data: Data | None = None,
) -> Path | list[Path]:
    """Write stand-alone networks of a workdir as folders that work without it, and verify them.

    Args:
      workdir: the folder of a run, or its `Results`.
      network: "best", the string or arch id of an architecture, or "group:NAME".
      folder: to write; None: WORKDIR/export/<short name>. Networks of a group get folders in it.
      space, data: of a run that had them as objects.

    Returns: the folder; of a group, a list of folders.

    Raises: ValueError if there is no such network, if the folder has other files, or if a form does
      not do what the network did; the files are there all the same.
    """
    directory, space = (
        getattr(workdir, "workdir", workdir),
        space or getattr(workdir, "space", None),
    )
    environment.start()
    source = Workdir(directory, space, data)
    networks, why = choosing.choose(source, network)
    logger.info("export %s", why)
    root = source.directory / "export" if folder is None else file_paths.local(folder, "folder")
    is_group = network.startswith(choosing.GROUP)
    written = []
    for number, one in enumerate(networks, 1):
        path = root / one.name if is_group or folder is None else root
        try:
            _write(source, one, path, why)
        except OSError as error:
            what = f"{error.filename or path}: {error.strerror or error}"
            raise ValueError(f"{what}; name a folder that can be written to") from error
        written.append(path)
        if number % CLEAR_EVERY == 0:
            jax.clear_caches()
    return written if is_group else written[0]


def _write(source: Workdir, finished: Finished, folder: Path, why: str) -> None:
    """Write the folder of a network. Raises: ValueError if it is not verified."""
    _make(folder)
    text, channels = widths.split(finished.result["arch"])
    architecture = Architecture(source.space, text)
    logger.info("export %s  F = %d  %s", folder, finished.result["filters"], text)
    net = source.network(finished)
    variables = source.variables(finished, net)
    about = _about(source, finished, architecture)
    facts, written = source.facts, Written(folder, net, variables, source.facts)
    written.write(about)
    data, reason = source.read_data
    checked = _verified(source, finished, net, variables, written, data, reason)
    contents = {
        "format": FORMAT,
        "architecture": text,
        "drawing": repr(architecture).splitlines()[1:],
        "space": source.config.space.to_dict(),
        "filters": finished.result["filters"],
        "widths": channels and dict(zip(source.space.tensors(text), channels)),
        "image_shape": facts.image_shape,
        "preprocessing": {
            **facts.read_as._asdict(),
            "range": "pixels 0 to 255, of 8 bits; (pixel / 255 - mean) / std is in the network",
            "mean": facts.mean,
            "std": facts.std,
        },
        "class_names": facts.class_names,
        "chosen": why,
        "protocol": finished.protocol,
        "result": dict(finished.result),
        "versions": workdir_lib.versions(),
        "versions_of_the_run": _versions_of(source.directory),
        "commit": _commit(),
        "files": _digests(folder),
        "not_written": written.reasons,
        "verification": checked,
    }
    json_files.write_json(folder / FILE, contents)
    _say(folder, checked, reason)


def _make(folder):
    """Make the folder, without the files of an earlier export."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.name not in (FILE, *forms.ALL, "__pycache__"):
            raise ValueError(f"{folder} has other files, such as {path.name}: give another folder")
    for name in (FILE, *forms.ALL):
        (folder / name).unlink(missing_ok=True)


def _about(source, finished, architecture):
    space, row = source.config.space.name, finished.result
    accuracy = f"{100 * finished.accuracy:.2f} % of the {finished.split} images right"
    head = f"A network of the space {space!r}, F = {row['filters']}: {accuracy}."
    return f"{head}\n\n{architecture!r}"


def _verified(source, finished, net, variables, written, data, reason) -> dict[str, Any]:
    """Compare the forms, and reproduce the accuracy if the images can be read."""
    images, what = verification.images_of(data, source.facts, finished.split)
    found = verification.compared(written.network, written.functions(), images)
    compared_on = {"images": what, "num_images": len(images)}
    checked = {"verified": False, "compared_on": compared_on, "forms": found}
    if data is None:
        return {**checked, "why_not": reason}
    again = verification.reproduced(source.config, net, variables, data, finished)
    prepared = verification.prepared(source.facts, data, finished.split)
    equal = all(one["equal"] for one in (again, prepared, *found.values()))
    return {**checked, "verified": equal, "accuracy": again, "preprocessing": prepared}


def _say(folder: Path, checked: Mapping[str, Any], reason: str) -> None:
    """Log what was verified. Raises: ValueError that names what differs."""
    images = f"{checked['compared_on']['num_images']} images ({checked['compared_on']['images']})"
    for name, form in checked["forms"].items():
        if not form["equal"]:
            classes = "equal" if form["classes_equal"] else "other"
            raise ValueError(
                f"{folder / name} does not do what the network does: logits differ by "
                f"{form['largest_relative_difference']:.2g} of the largest (at most "
                f"{verification.TOLERANCE:g}), with {classes} classes, on {images}"
            )
    differences = [form["largest_relative_difference"] for form in checked["forms"].values()]
    forms_agree = f"{', '.join(checked['forms'])} agree within {max(differences):.1e}"
    if reason:
        logger.warning("export %s  unverified: %s; %s", folder, reason, forms_agree)
        return
    if differs := checked["preprocessing"]["differs"]:
        raise ValueError(
            f"{folder}: predictions would read {differs} otherwise than the training did, so they "
            "would not be the network's; give the data set that the run had as data="
        )
    again = checked["accuracy"]
    if not again["equal"]:
        raise ValueError(
            f"{folder}: the network's accuracy is {again['accuracy']:.4f} on {again['num_images']} "
            f"images of {again['split']}, not {again['accuracy_of_result_json']:.4f} as its "
            f"result.json says (dtype {again['dtype']})"
        )
    logger.info(
        "export %s  verified: accuracy %.2f %% on %d images of %s, as trained; %s",
        *(folder, 100 * again["accuracy"], again["num_images"], again["split"], forms_agree),
    )


def _digests(folder):
    """Return {file: its SHA-256} of the forms."""
    there = [name for name in forms.ALL if (folder / name).exists()]
    return {name: digest(folder / name) for name in there}


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _versions_of(directory):
    path = directory / "versions.json"
    return json_files.read_json(path) if path.exists() else None


def _commit():
    """Return the commit of the checkout that this package lies in; None if it lies in none."""
    root = Path(nas_jax.__file__).parents[1]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # no git, or no commit
        return None
