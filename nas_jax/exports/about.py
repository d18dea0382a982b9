"""The file model.json of an exported network: it says what the network is, and vouches for all."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas_jax.storage import json_files, schemas

FILE, FORMAT = "model.json", 1
OF_STUDY = (
    "it is a study's workdir, and networks of a study's store cannot be exported: train the "
    "architecture in a workdir of its own by --mode=retrain --config.retrain.archs=.. and export "
    "that"
)
_OWN = "digest"  # the field that is of all others

SCHEMA = {
    "format": schemas.Kind(str(FORMAT), lambda x: x == FORMAT),
    "architecture": schemas.TEXT,
    "class_names": [schemas.TEXT],
    "image_shape": [schemas.SIZE],
    "preprocessing": schemas.READ_AS,
    "files": {str: schemas.TEXT},
    "verification": {
        "verified": schemas.Kind("true or false", lambda x: isinstance(x, bool)),
        "why_not": schemas.TEXT.or_null(),
    },
    _OWN: schemas.TEXT,
}


def write(folder: Path, contents: Mapping[str, Any]) -> None:
    """Write model.json, with a digest of `contents`."""
    there = json.loads(json.dumps(json_files.finite(contents)))
    json_files.write_json(folder / FILE, {**there, _OWN: _of_fields(there)})


def read(folder: Path) -> dict[str, Any]:
    """Read model.json.

    Raises: ValueError if the folder is none of an export, or a file is missing or was changed.
    """
    path = folder / FILE
    if not path.is_file():
        raise ValueError(
            f"model={folder} is no exported network: there is no {path}; {_way_out(folder)}"
        )
    contents = json_files.read_json(path, SCHEMA)
    if _of_fields(contents) != contents[_OWN]:
        raise _changed(path)
    for name, wanted in contents["files"].items():
        if not (folder / name).is_file():
            raise ValueError(f"{folder / name} is missing: export the network anew")
        if of_file(folder / name) != wanted:
            raise _changed(folder / name)
    return contents


def _way_out(folder):
    path = folder / "config.json"
    if not path.is_file():
        return "--mode=export writes one"
    study = json_files.read_json(path, schemas.OBJECT).get("study")
    if isinstance(study, dict) and study.get("parts"):
        return OF_STUDY
    return f"--mode=export --workdir={folder} writes one"


def is_one(folder: Path) -> bool:
    """Say whether a folder has a model.json, of this format."""
    try:
        json_files.read_json(folder / FILE, {"format": SCHEMA["format"], "files": SCHEMA["files"]})
    except (OSError, ValueError):
        return False
    return True


def of_file(path: Path) -> str:
    """Return the SHA-256 of a file, hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _of_fields(contents):
    """Return the SHA-256 of all fields but the digest itself, hex."""
    others = {name: value for name, value in contents.items() if name != _OWN}
    return hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest()


def _changed(path):
    return ValueError(f"{path} was changed since the export: export the network anew")
