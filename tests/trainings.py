"""Trainings of supernets that several tests make, whole and killed."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest

from nas_jax import api, pipeline
from nas_jax import build as build_lib
from nas_jax.candidates import sweep
from nas_jax.storage import json_files
from nas_jax.storage.checkpoints import Checkpoints
from nas_jax.training import supernet

# A supernet of four ops, where a test is about what is around it.
SMALL = {"space.num_cells": 1, "space.num_blocks": 1, "space.ops": ("identity", "sep3x3")}


def built_with(config, fields):
    """What `build` gives, with fields of the config changed, such as {"sweep.score": "kl"}."""
    with config.unlocked():
        config.update_from_flattened_dict(fields)
    return build(config)


def chosen(config, fields):
    """What `build` gives, with fields as the command sets them: with the recipe of a variant."""
    return build(api.as_config(config, fields))


def build(config):
    """(config, space, data) of the run of a config, to be given to `run_of`."""
    pipeline.check_fields(config)
    run = build_lib.build_run(config, "unused")
    return run.config, run.space, run.data


def run_of(config, space, data, directory):
    """The run of what `build` gave, perhaps changed, in a folder."""
    return build_lib.assemble(config, data, directory)


class Stop(Exception):
    """Stands for a kill."""


@dataclasses.dataclass
class Stopping:
    """The same data, but they end after 17 batches."""

    data: object

    def __getattr__(self, name):
        return getattr(self.data, name)

    def batches(self, *args, **kwargs):
        """Those of the data; then `Stop` is raised."""
        yield from itertools.islice(self.data.batches(*args, **kwargs), 17)
        raise Stop


class SameOrder:
    """Data in the order of seed 0, whoever asks."""

    def __init__(self, data):
        self._data = data

    def __getattr__(self, name):
        return getattr(self._data, name)

    def batches(self, *args, seed, **kwargs):
        """Those of the data."""
        return self._data.batches(*args, seed=0, **kwargs)


def fit(built, directory, num_devices=1, wrap=lambda data: data):
    """(last state, lines of metrics.jsonl) of the supernet of what `build` gave."""
    (config, space, data), devices = built, jax.devices()[:num_devices]
    run = run_of(config, space, wrap(data), directory)
    training = supernet.training(run, devices)
    state = training.fit(directory, seed=config.seed)
    return state, json_files.read_jsonl(directory / "metrics.jsonl")


def assert_resumes(built, directory, state, rows):
    """Stopped after step 17 and resumed from step 10, it ends as the whole one did, to the bit."""
    with pytest.raises(Stop):
        fit(built, directory, wrap=Stopping)
    with Checkpoints(directory / "checkpoints") as checkpoints:
        assert checkpoints.latest == 10
    resumed, again = fit(built, directory)
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(resumed), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
    for ours, theirs in zip(rows, again, strict=True):
        assert ours | {"images_per_second": 0} == theirs | {"images_per_second": 0}


def swept(config, space, data, directory):
    """The trials of a sweep in `directory`."""
    sweep.search(run_of(config, space, data, directory))
    return json_files.read_trials(directory / "trials.jsonl")


def assert_equal(a, b, **close):
    """Arrays of two pytrees are equal, bit for bit or as `assert_allclose` takes it."""
    check = np.testing.assert_allclose if close else np.testing.assert_array_equal
    jax.tree.map(lambda x, y: check(np.asarray(x), np.asarray(y), **close), a, b)
