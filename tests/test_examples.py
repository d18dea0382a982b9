"""The examples run as they are, from a folder of a user, with a wheel of the package installed."""

import itertools
import json
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nas_jax import plugins
from nas_jax.data import augment
from tests import compilation_cache, wheels
from tests.images import noise

pytestmark = pytest.mark.system

OWN = {  # what config.json, or another file of the run, says of the part that is one's own
    "own_folder": ("config.json", '"folder:shapes"'),
    "own_arrays": ("data.json", "[\n    28,\n    28,\n    1\n  ]"),
    "own_space": ("config.json", '"__main__:Blocks"'),
    "own_op": ("config.json", "SqueezeExcite"),
    "own_strategy": ("config.json", "own_strategy.py:Climb"),
    "own_evaluator": ("config.json", "own_evaluator.py:margin"),
    "own_augmentation": ("config.json", "own_augmentation.py:rand_augment"),
    "own_loss": ("config.json", "own_loss.py:lion"),
    "own_listener": ("leader.csv", "1,0."),
}


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The Python of a new virtual environment that has the wheel."""
    folder = tmp_path_factory.mktemp("installed")
    python, _ = wheels.environment(folder / "environment")
    wheel = str(wheels.build(folder / "checkout"))
    done = wheels.pip(f"--python={python}", "install", "--no-deps", wheel, cwd=folder)
    assert done.returncode == 0, done.stderr
    return python


def test_each_is_listed():
    assert {path.stem for path in (wheels.ROOT / "examples").glob("*.py")} == set(OWN)


@pytest.mark.parametrize("name", OWN)
def test_an_example_searches_with_a_part_of_its_own(python, tmp_path, name):
    script = wheels.ROOT / "examples" / f"{name}.py"
    flags = compilation_cache.flags(num_devices=1)
    done = wheels.started(python, script, cwd=tmp_path, XLA_FLAGS=flags)
    assert done.returncode == 0, done.stderr[-2000:]
    workdir = tmp_path / "runs" / name
    assert done.stdout.splitlines()[-1] == f"runs/{name}/report/report.md"
    assert (workdir / "report" / "report.md").stat().st_size
    assert json.loads((workdir / "status.json").read_text())["status"] == "done"
    file, text = OWN[name]
    assert text in (workdir / file).read_text()


# -- what the example of an augmentation does -----------------------------------------------------

RAND_AUGMENT = f"{wheels.ROOT}/examples/own_augmentation.py:rand_augment"


@pytest.mark.parametrize("channels", [1, 3])
def test_rand_augment_changes_images_by_their_keys_alone(channels):
    function = jax.jit(augment.function(RAND_AUGMENT))
    images = (noise(200, 12, 10, channels) / 255).astype(np.float32)
    keys = jax.random.split(jax.random.key(0), 200)
    made = np.asarray(function(keys, images))
    assert (made.shape, made.dtype) == (images.shape, np.float32)
    assert 0 <= made.min() <= made.max() <= 1
    np.testing.assert_array_equal(function(keys, images), made)
    np.testing.assert_allclose(function(keys[7:9], images[7:9]), made[7:9], atol=1e-5)
    changed = np.abs(made - images).max((1, 2, 3)) > 1e-3
    assert 0.9 < changed.mean() < 1  # two identities in a row are 1 of 100 or 121
    assert np.abs(function(keys[::-1], images) - made).max() > 0.1


def test_rand_augment_draws_every_op_and_sign():
    """One image by many keys: 11 ops of two signs, two in a row, have hundreds of results."""
    images = np.repeat(noise(1, 8, 8), 1000, 0).astype(np.float32) / 255
    keys = jax.random.split(jax.random.key(1), 1000)
    made = np.asarray(jax.jit(augment.function(RAND_AUGMENT))(keys, images))
    example = sys.modules[augment.function(RAND_AUGMENT).__module__]
    ops = example.OPS + example.COLOUR

    @jax.jit
    def alone(image):
        pairs = itertools.product(ops, (example.MAGNITUDE, -example.MAGNITUDE))
        return [jnp.clip(op(image, strength), 0, 1) for op, strength in pairs]

    for one in alone(images[0]):  # that op before or after the identity
        assert (np.abs(made - one).max((1, 2, 3)) < 1e-4).any()
    distinct = np.unique(np.round(made.reshape(1000, -1), 3), axis=0)
    assert len(distinct) > 200


def test_without_dm_pix_the_example_says_so_in_one_line(python, tmp_path, monkeypatch):
    script = wheels.ROOT / "examples" / "own_augmentation.py"
    code = f"import sys, runpy; sys.modules['dm_pix'] = None; runpy.run_path({str(script)!r}, "
    done = wheels.started(python, "-c", code + "run_name='__main__')", cwd=tmp_path)
    said = 'own_augmentation.py needs dm-pix: pip install "nas_jax[augment]"'
    assert (done.returncode, done.stderr) == (1, f"{said}\n")
    for name in [name for name in sys.modules if name.startswith("nas_jax_file_")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "dm_pix", None)
    with pytest.raises(
        ValueError, match=rf"^train.augment.fn=.*: ImportError .*{re.escape(said)}$"
    ):
        plugins.resolve(augment.FIELD, RAND_AUGMENT, {}, "augmentations")
