"""Workdirs with networks that were trained alone for a few steps: what is exported."""

import functools
import shutil

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from nas_jax import build
from nas_jax.costs import widths
from nas_jax.exports.workdirs import Workdir
from nas_jax.spaces import arch_id
from nas_jax.standalone.retrain import train_one
from nas_jax.storage import json_files, workdir
from tests.configs import tiny

CELL = "0,1>sep3x3,maxpool|0,2>identity,sep3x3"
OTHER_CELL = "1>sep3x3|1,2>maxpool"


def make(directory, networks, space=None, data=None, **fields):
    """Train networks in `directory`, as --mode=retrain does, for two steps; return the run.

    Args:
      directory: of the run.
      networks: {protocol: strings}; they are the group "top" of the protocol.
      space: the section `space`; None: that of the tiny config.
      data: an object.
      **fields: of the config, with '__' for '.'.
    """
    config = tiny.get_config()
    if space is not None:
        with config.unlocked():
            config.space = ConfigDict(space)
    for protocol in (config.retrain.short, config.retrain.final):
        protocol.train.num_steps = 2
    config.update_from_flattened_dict({k.replace("__", "."): v for k, v in fields.items()})
    run = build.build_run(config, directory, data=data)
    inputs = {"fingerprint": run.data.fingerprint, "order": run.data.order, "table": None}
    workdir.open_workdir(directory, run.config.to_dict(), inputs, run.data.facts())
    for protocol, texts in networks.items():
        for text in texts:
            root = directory / "retrain" / protocol
            train_one(run, protocol, root / "F4" / arch_id(text) / "seed0", text, 4, 0)
        json_files.write_json(root / "selection.json", {"top": texts})
    return run


def copied(run, tmp_path):
    """A copy of a run, in tmp_path / "run"."""
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("export"))
    return tmp_path / "run"


def changed(path, **values):
    """Change fields of a file of JSON."""
    json_files.write_json(path, {**json_files.read_json(path), **values})


def pictures(folder, random):
    """Images of several sizes and modes: RGB, grey, alpha, 16 bit, turned by EXIF."""
    shape = (24, 32)
    rgb = random.integers(0, 256, (*shape, 3)).astype(np.uint8)
    grey = random.integers(0, 256, (40, 24)).astype(np.uint8)
    alpha = random.integers(0, 256, (16, 16, 4)).astype(np.uint8)
    deep = random.integers(0, 2**16, shape).astype(np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(rgb).save(folder / "rgb.png")
    Image.fromarray(grey).save(folder / "grey.png")
    Image.fromarray(alpha).save(folder / "alpha.png")
    Image.fromarray(deep).save(folder / "deep.png")
    Image.fromarray(rgb).save(folder / "turned.jpg", exif=exif)


def with_widths(space, text):
    """The string of a network of widths 2, 3, 4, 2, ..."""
    count = len(space.tensors(text))
    return widths.join(text, np.resize([2, 3, 4], count).tolist())


@functools.cache
def logits_of(directory, name, num_images=32):
    """(images, logits) of a network of a workdir itself, by its short name."""
    source = Workdir(directory)
    (one,) = (one for one in source.finished if one.name == name)
    net, facts = source.network(one), source.facts
    images, _ = source.read_data[0].fixed(one.split, num_images)
    pixels = (images / 255 - np.asarray(facts.mean)) / np.asarray(facts.std)
    return images, np.asarray(net.apply(source.variables(one, net), pixels.astype(np.float32)))


def assert_same(logits, wanted):
    """Within 1e-5 of the largest logit, with the same classes."""
    assert np.abs(logits - wanted).max() <= 1e-5 * np.abs(wanted).max()
    assert (logits.argmax(-1) == wanted.argmax(-1)).all()
