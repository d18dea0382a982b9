"""Images as they come: other depths, modes and shapes, damaged ones, and labels that are wrong."""

import io
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from nas_jax import config as config_lib
from nas_jax import pipeline, spaces
from nas_jax.costs import params_flops
from nas_jax.data import dataset, imaging, loading, records
from nas_jax.storage import json_files
from tests import trainings
from tests.configs import tiny
from tests.images import noise, png, write_tfds
from tests.test_bad_input import damaged, examples, refused


def load(root, name="own", **specs):
    """The set of that name in stored order; its splits are "train", "valid" and "test"."""
    specs = {"train": "train", "valid": "valid", "test": "test", "shuffle_seed": -1, **specs}
    return loading.load(name, data_dir=str(root), **specs)


def in_file(image, kind, **options):
    """The bytes of a file of that kind with a Pillow image."""
    stored = io.BytesIO()
    image.save(stored, kind, **options)
    return stored.getvalue()


# -- depths and modes -----------------------------------------------------------------------------


def luma(colours):
    """Float [..., 1], ITU-R 601."""
    return colours @ np.array([[0.299], [0.587], [0.114]])


def colours_of(stored, asked):
    """What is seen of uint8 or uint16 [.., 1..4 (the last of 2 or 4 is alpha)]: [.., asked]."""
    high = stored // 256 if stored.dtype == np.uint16 else stored
    split = 3 if stored.shape[-1] > 2 else 1
    colours, alpha = high[..., :split], high[..., split:]
    if asked == 1:
        return colours if split == 1 else luma(colours)
    rgb = colours + np.zeros(3, np.uint8)
    opaque = np.full((*stored.shape[:-1], 1), 255, np.uint8)
    return rgb if asked == 3 else np.concatenate([rgb, alpha if alpha.size else opaque], -1)


@pytest.mark.parametrize("asked", [1, 3, 4])
@examples(150)
@given(drawn=st.data())
def test_a_png_of_any_depth_has_the_colours_that_were_stored(asked, drawn):
    dtype = drawn.draw(st.sampled_from([np.uint8, np.uint16]))
    shape = drawn.draw(st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 4)))
    stored = drawn.draw(hnp.arrays(dtype, shape, elements=st.integers(0, np.iinfo(dtype).max)))
    got = np.asarray(imaging.open_image(png(stored), asked)).reshape(*shape[:2], asked)
    assert got.dtype == np.uint8
    atol = 0.51 if asked == 1 and shape[2] > 2 else 0  # luma is rounded
    np.testing.assert_allclose(got, colours_of(stored, asked), atol=atol)


STEPS = np.arange(0, 2**16, 1024).reshape(8, 8)  # 0, 1024, 2048, ..; their high bytes: 0, 4, 8, ..
BITS = np.arange(64).reshape(8, 8) % 3 == 0
GREYS = {
    "16 bits": (png(STEPS.astype(np.uint16)[..., None]), STEPS // 256),
    "I;16": (in_file(Image.fromarray(STEPS.astype(np.uint16)), "TIFF"), STEPS // 256),
    "I;16B": (in_file(Image.fromarray(STEPS.astype(">u2")), "TIFF"), STEPS // 256),
    "I": (in_file(Image.fromarray(STEPS.astype(np.int32)), "TIFF"), STEPS // 256),
    "F": (in_file(Image.fromarray(STEPS.astype(np.float32)), "TIFF"), STEPS // 256),
    "16 bits, PGM": (b"P5 8 8 65535\n" + STEPS.astype(">u2").tobytes(), STEPS // 256),
    "1": (in_file(Image.fromarray(BITS), "PNG"), 255 * BITS),
}


@pytest.mark.parametrize("name", GREYS)
def test_greys_of_any_depth_are_read_as_8_bits(name):
    encoded, grey = GREYS[name]
    np.testing.assert_array_equal(imaging.open_image(encoded, 1), grey)
    rgb = np.repeat(grey[..., None], 3, -1)
    np.testing.assert_array_equal(imaging.open_image(encoded, 3), rgb)
    rgba = np.concatenate([rgb, np.full((8, 8, 1), 255)], -1)
    np.testing.assert_array_equal(imaging.open_image(encoded, 4), rgba)


UNREADABLE = {
    "beyond 16 bits": (np.full((2, 3), 2**16, np.int32), "from 65536 to 65536"),
    "negative": (np.full((2, 3), -1, np.int32), "from -1 to -1"),
    "fractions": (np.full((2, 3), 0.5, np.float32), "from 0.5 to 0.5"),
    "no number": (np.full((2, 3), np.nan, np.float32), "from nan to nan"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_numbers_that_are_no_grey_levels_are_refused(name):
    pixels, fragment = UNREADABLE[name]
    for channels in (1, 3, 4):
        with pytest.raises(ValueError, match=rf"{fragment}; .* whole numbers of 0\.\.65535"):
            imaging.open_image(in_file(Image.fromarray(pixels), "TIFF"), channels)


SHAPE = 6, 5
TABLE = noise(1, 1, 256, seed=1)[0, 0]  # of a palette
INDEX = noise(1, *SHAPE, 1, seed=2)[0, ..., 0]
OPACITY = noise(1, 1, 256, 1, seed=3).ravel()
CMYK = noise(1, *SHAPE, 4, seed=4)[0].astype(float)
OPAQUE = np.full(SHAPE, 255)


def with_palette(**options):
    image = Image.fromarray(INDEX, "P")
    image.putpalette(TABLE.tobytes())
    return in_file(image, "PNG", **options)


COLOURED = {  # bytes, RGBA
    "palette": (with_palette(), np.dstack([TABLE[INDEX], OPAQUE])),
    "palette with transparency": (
        with_palette(transparency=OPACITY.tobytes()),
        np.dstack([TABLE[INDEX], OPACITY[INDEX]]),
    ),
    "CMYK": (
        in_file(Image.fromarray(CMYK.astype(np.uint8), "CMYK"), "TIFF"),
        np.dstack([(255 - CMYK[..., :3]) * (255 - CMYK[..., 3:]) / 255, OPAQUE]),
    ),
}


@pytest.mark.parametrize("name", COLOURED)
@pytest.mark.filterwarnings("ignore:Palette images with Transparency")
def test_palettes_and_cmyk_become_rgb(name):
    encoded, rgba = COLOURED[name]
    np.testing.assert_allclose(imaging.open_image(encoded, 4), rgba, atol=1)
    np.testing.assert_allclose(imaging.open_image(encoded, 3), rgba[..., :3], atol=1)
    grey = np.asarray(imaging.open_image(encoded, 1))[..., None]
    np.testing.assert_allclose(grey, luma(rgba[..., :3]), atol=2)


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """16 bits: `own`, 20 + 4 + 4 images; `dim`, of which 12 bits are used; `imagenet2012`."""
    root = tmp_path_factory.mktemp("deep")
    images = np.random.default_rng(0).integers(0, 2**16, (28, 4, 4, 1), np.uint16)
    flat = np.broadcast_to(images[:, :1, :1], images.shape)  # however it is cropped and resized
    labels = np.arange(28) % 2
    version = str(tfds.builder_cls("imagenet2012").VERSION)
    for name, pixels, channels in (
        ("own", images, 1),
        ("dim", images // 16, 1),
        ("imagenet2012", flat, 3),
    ):
        encoded = [png(image) for image in pixels]
        parts = {"train": slice(20), "valid": slice(20, 24), "test": slice(24, 28)}
        splits = {split: (encoded[part], labels[part]) for split, part in parts.items()}
        write_tfds(root, name, version if channels == 3 else "1.0.0", splits, channels=channels)
    return root, images, flat


def test_a_set_of_16_bits_is_read_as_its_high_bytes(deep, caplog):
    root, images, _ = deep
    own = load(root)
    for split, part in {"train": images[:20], "valid": images[20:24], "test": images[24:]}.items():
        np.testing.assert_array_equal(own.fixed(split, len(part))[0], part // 256)
    assert own.mean == pytest.approx([(images[:20] // 256).mean() / 255])
    assert not caplog.records


def test_a_streamed_set_of_16_bits_is_read_as_its_high_bytes(deep):
    root, _, flat = deep
    streamed = load(root, "imagenet2012", image_size=4)
    expected = np.repeat(flat[:20] // 256, 3, -1)
    np.testing.assert_array_equal(streamed.fixed("train", 20)[0], expected)
    batch = next(streamed.batches("train", 20, seed=0))
    order = np.random.default_rng((0, 0)).permutation(20)
    np.testing.assert_array_equal(batch["image"], expected[order])


def test_a_set_of_12_bits_in_16_is_warned_of_once(deep, caplog):
    root, images, _ = deep
    dim = load(root, "dim")
    np.testing.assert_array_equal(dim.fixed("train", 20)[0], images[:20] // 16 // 256)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    for fragment in ("data.name='dim'", "above 15 of 255", "16"):
        assert fragment in record.getMessage()


@pytest.mark.system
def test_a_set_of_4_channels_is_searched_to_the_end(tmp_path):
    config = tiny.get_config()
    images, labels = noise(96, 8, 8, 4), np.arange(96) % 10
    write_tfds(tmp_path, "own", "1.0.0", {"train": (images, labels)})
    slices = {"train": "train[:64]", "valid": "train[64:80]", "test": "train[80:]"}
    config.data.update(name="own", data_dir=str(tmp_path), **slices)
    config.space.num_cells = config.space.num_blocks = 1
    config.supernet.train.num_steps = config.retrain.final.train.num_steps = 2
    config.sweep.update(num_images=16, batch_size=16, num_candidates=8)
    config_lib.retrain_nothing(config)
    config.retrain.final.groups.top = 1
    pipeline.run(config, "search", tmp_path / "run")
    (best,) = (tmp_path / "run" / "retrain" / "final").rglob("result.json")
    found = json_files.read_json(best)
    space = spaces.make(**config.space.to_dict())
    arch = space.from_str(found["arch"])
    rgb = params_flops.of(space, arch, filters=4, image_size=8, channels=3)
    assert found["params"] == rgb.params + 2 * 3 * 3 * 4  # two stems of 3x3 kernels, to 4 channels
    assert found["flops"] == rgb.flops + 2 * 3 * 3 * 4 * 8 * 8


# -- records that are damaged ---------------------------------------------------------------------

GOOD = [png(image) for image in noise(24, 4, 4)]
PARTS = {"train": slice(16), "valid": slice(16, 20), "test": slice(20, 24)}
KINDS = ("own", "imagenet2012")  # in memory, streamed


def write(root, name, images, labels):
    """A set of 16 + 4 + 4 records."""
    splits = {split: (images[part], labels[part]) for split, part in PARTS.items()}
    version = str(tfds.builder_cls(name).VERSION) if name in loading.STREAMED else "1.0.0"
    write_tfds(root, name, version, splits, channels=3, num_classes=1000)


def read_all(root, name):
    """All images and labels of the set, read at 4 x 4."""
    own = load(root, name, image_size=4)
    return [own.fixed(split, own.num_images(split)) for split in PARTS]


DAMAGED = {
    "no bytes": (b"", 1, "0 bytes are no image"),
    "no image": (b"no image", 1, "8 bytes are no image"),
    "cut short": (GOOD[0][:60], 1, "truncated"),
    "no grey levels": (
        in_file(Image.fromarray(np.full((2, 3), -1, np.int32)), "TIFF"),
        1,
        "from -1 to -1",
    ),
    "label -1": (GOOD[0], -1, "its label is -1, not in 0..999"),
    "label K": (GOOD[0], 1000, "its label is 1000, not in 0..999"),
    "label of 64 bits": (GOOD[0], 2**32 + 1, "its label is 4294967297, not in 0..999"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("split", "number"), [("train", 3), ("valid", 1), ("test", 3)])
@pytest.mark.parametrize("name", DAMAGED)
def test_a_record_that_cannot_be_used_is_named(tmp_path, kind, split, number, name):
    images, labels = list(GOOD), [0, 1] * 12
    place = range(24)[PARTS[split]][number]
    images[place], labels[place], reason = DAMAGED[name]
    write(tmp_path, kind, images, labels)
    with pytest.raises(ValueError, match="mend it") as error:
        read_all(tmp_path, kind)
    message = str(error.value)
    assert message.startswith(f"data.{split}: record {number} (counted from 0): ")
    assert reason in message
    assert "\n" not in message


@pytest.mark.parametrize("error", [MemoryError(), OSError(5, "Input/output error")])
def test_what_the_machine_lacks_is_no_records_fault(error):
    with pytest.raises(type(error)) as raised, records.reading(0, (1, 1, 1)):
        raise error
    assert raised.value is error


@pytest.mark.parametrize("kind", KINDS)
@examples(25)
@given(drawn=st.data())
def test_damaged_bytes_are_an_image_or_name_their_record(tmp_path_factory, kind, drawn):
    root = tmp_path_factory.mktemp("damaged")
    split = drawn.draw(st.sampled_from(list(PARTS)))
    numbers = range(24)[PARTS[split]]
    number = drawn.draw(st.integers(0, len(numbers) - 1))
    images = list(GOOD)
    images[numbers[number]] = damaged(drawn, GOOD[0])
    write(root, kind, images, [0, 1] * 12)
    refused(read_all, root, kind, naming=f"data.{split}: record {number} ")


@pytest.mark.system
def test_a_streamed_training_names_its_damaged_record_until_it_is_mended(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "NUM_SAMPLED", 3)  # of its fingerprint: the first, middle and last
    config = tiny.get_config()
    with config.unlocked():
        config.data.update(name="imagenet2012", train="train", valid="valid", test="test")
        config.data.data_dir = str(tmp_path / "set")
        for train in (
            config.supernet.train,
            config.retrain.short.train,
            config.retrain.final.train,
        ):
            train.update(batch_size=16, ghost_batch_size=2)
        config.supernet.train.num_steps = 5
        config.sweep.update(num_images=4, batch_size=4)
        config.update_from_flattened_dict(trainings.SMALL)
    write(tmp_path / "set", "imagenet2012", [*GOOD[:5], GOOD[5][:60], *GOOD[6:]], [0, 1] * 12)
    with pytest.raises(ValueError, match=r"^data\.train: record 5 .*truncated"):
        pipeline.run(config, "supernet", tmp_path / "run")
    status = json_files.read_json(tmp_path / "run" / "status.json")
    assert "data.train: record 5 " in status["error"]
    shutil.rmtree(tmp_path / "set")
    write(tmp_path / "set", "imagenet2012", GOOD, [0, 1] * 12)
    pipeline.run(config, "supernet", tmp_path / "run")
    assert json_files.read_json(tmp_path / "run" / "status.json")["status"] == "done"


# -- parts of images ------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(500, 375), (100, 400), (20, 4000)])
def test_random_boxes_lie_inside_and_have_the_area(size):
    boxes = np.array([imaging.random_box(*size, np.random.default_rng(i)) for i in range(500)])
    sides = boxes[:, 2:] - boxes[:, :2]
    assert np.all(boxes[:, :2] >= 0)
    assert np.all(boxes[:, 2:] <= np.asarray(size) + 1e-9)
    ratio, share = sides[:, 0] / sides[:, 1], sides.prod(1) / np.prod(size)
    assert np.all((ratio > 0.7499) & (ratio < 1.3334))
    if size == (500, 375):
        assert share.min() == pytest.approx(0.08, abs=0.02)
        assert share.max() > 0.9
