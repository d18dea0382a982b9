"""The folder of an exported network: its forms, and model.json, which says what they are.

    model.json           architecture, classes, preprocessing, accuracies, versions, verification
    params.safetensors   and the other forms, see `nas_jax.exports.forms`

The folder needs neither the workdir nor, but for `nas_jax.load`, this package.
"""

import logging
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

import nas_jax
from nas_jax.costs import widths
from nas_jax.data.dataset import Data
from nas_jax.exports import about, choosing, forms, places, verification
from nas_jax.exports.workdirs import Finished, Workdir
from nas_jax.exports.written import Written
from nas_jax.report.architecture import Architecture
from nas_jax.runtime import environment
from nas_jax.spaces import Space
from nas_jax.standalone.retrain import CLEAR_EVERY
from nas_jax.storage import file_paths, json_files
from nas_jax.storage import workdir as workdir_lib

logger = logging.getLogger(__name__)


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
    places.check(folder)
    text, _ = widths.split(finished.result["arch"])
    architecture = Architecture(source.space, text)
    logger.info("export %s  F = %d  %s", folder, finished.result["filters"], text)
    net = source.network(finished)
    variables = source.variables(finished, net)
    with places.replacing(folder) as new:
        written = Written(new, net, variables, source.facts)
        written.write(_head(source, finished, architecture))
        checked = _verified(source, finished, net, variables, written)
        contents = {
            **_described(source, finished, architecture),
            "chosen": why,
            "files": _digests(new),
            "not_written": written.reasons,
            "verification": checked,
        }
        about.write(new, contents)
    _say(folder, checked)


def _described(source, finished, architecture) -> dict[str, Any]:
    """Say in model.json what the network is, and where it is from."""
    facts, (text, channels) = source.facts, widths.split(finished.result["arch"])
    return {
        "format": about.FORMAT,
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
        "protocol": finished.protocol,
        "result": dict(finished.result),
        "versions": workdir_lib.versions(),
        "versions_of_the_run": _versions_of(source.directory),
        "commit": _commit(),
    }


def _head(source, finished, architecture):
    space, row = source.config.space.name, finished.result
    accuracy = f"{100 * finished.accuracy:.2f} % of the {finished.split} images right"
    head = f"A network of the space {space!r}, F = {row['filters']}: {accuracy}."
    return f"{head}\n\n{architecture!r}"


def _verified(source, finished, net, variables, written) -> dict[str, Any]:
    """Compare the forms, and reproduce the accuracy if the images can be read."""
    data, unread = source.read_data
    images, what = verification.images_of(data, source.facts, finished.split)
    checked = {
        "compared_on": {"images": what, "num_images": len(images)},
        "forms": verification.compared(written.network, written.functions(), images),
    }
    if data is not None:
        checked |= {
            "preprocessing": verification.prepared(source.facts, data, finished.split),
            "accuracy": verification.reproduced(source.config, net, variables, data, finished),
        }
    why_not = verification.difference(checked) or unread or None
    return {"verified": why_not is None, "why_not": why_not, **checked}


def _say(folder: Path, checked: Mapping[str, Any]) -> None:
    """Log what was verified. Raises: ValueError that names what differs."""
    why_not, differs = checked["why_not"], verification.difference(checked)
    if differs:
        raise ValueError(f"{folder}: {differs}")
    differences = [form["largest_relative_difference"] for form in checked["forms"].values()]
    forms_agree = f"{', '.join(checked['forms'])} agree within {max(differences):.1e}"
    if why_not:
        logger.warning("export %s  unverified: %s; %s", folder, why_not, forms_agree)
        return
    again = checked["accuracy"]
    logger.info(
        "export %s  verified: accuracy %.2f %% on %d images of %s, as trained; %s",
        *(folder, 100 * again["accuracy"], again["num_images"], again["split"], forms_agree),
    )


def _digests(folder):
    """Return {file: its SHA-256} of the forms."""
    there = [name for name in forms.ALL if (folder / name).exists()]
    return {name: about.of_file(folder / name) for name in there}


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
