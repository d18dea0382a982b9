"""Which images stand for a split, and which classes splits have, however a set is stored."""

import zlib

import numpy as np
import pytest
import tensorflow_datasets as tfds
from hypothesis import given
from hypothesis import strategies as st

from nas_jax.data import loading
from tests.data.test_images import colours_of
from tests.images import noise, png, write_tfds
from tests.test_bad_input import examples, refused

SIZES = {"train": 600, "valid": 100, "test": 100}
SPLITS = (*SIZES, "train+valid")
KINDS = ("own", "imagenet2012")  # in memory, streamed
SORTED = {split: np.sort(np.arange(size) % 10) for split, size in SIZES.items()}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two sets of 10 classes, of which each split is sorted by class."""
    root = tmp_path_factory.mktemp("sorted")
    encoded = [png(image) for image in noise(600, 2, 2)]
    for name in KINDS:
        version = str(tfds.builder_cls(name).VERSION) if name in loading.STREAMED else "1.0.0"
        splits = {split: (encoded[: len(labels)], labels) for split, labels in SORTED.items()}
        write_tfds(root, name, version, splits, channels=3)
    return root


def load(root, name="own", **options):
    """The set of that name, at 2 x 2, of the splits "train", "valid" and "test"."""
    options = {"train": "train", "valid": "valid", "test": "test", "image_size": 2, **options}
    return loading.load(name, data_dir=str(root), **options)


def stored_labels(split):
    return np.concatenate([SORTED[part] for part in split.split("+")])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", KINDS)
def test_fixed_images_of_a_sorted_set_are_of_all_classes(root, name, seed):
    data = load(root, name, shuffle_seed=seed)
    images, labels = data.fixed("train", 100)
    assert np.abs(np.bincount(labels, minlength=10) - 10).max() < 9  # 3.3 standard deviations
    for first, again in zip(
        (images, labels), load(root, name, shuffle_seed=seed).fixed("train", 100)
    ):
        np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", KINDS)
def test_the_fixed_order_depends_on_the_seed_and_the_split_alone(root, name, split):
    stored = stored_labels(split)
    for seed in (0, 5):
        order = np.random.default_rng((seed, zlib.crc32(split.encode()))).permutation(len(stored))
        data = load(root, name, shuffle_seed=seed)
        np.testing.assert_array_equal(data.fixed(split, len(stored))[1], stored[order])
        np.testing.assert_array_equal(data.fixed(split, 30, start=20)[1], stored[order[20:50]])
    data = load(root, name, shuffle_seed=-1)
    np.testing.assert_array_equal(data.fixed(split, 50, start=30)[1], stored[30:80])


@pytest.mark.parametrize("seed", [-1, 0, 7])
@pytest.mark.parametrize("split", SPLITS)
def test_parts_of_a_split_are_disjoint_and_make_it_up(root, split, seed):
    data, size = load(root, shuffle_seed=seed), len(stored_labels(split))
    starts = range(0, size, 50)
    parts = [data.fixed(split, min(50, size - start), start=start)[0] for start in starts]
    whole = np.concatenate([images for images, _ in data.in_order(split, 70)])
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    stored = np.concatenate([noise(600, 2, 2)[: SIZES[part]] for part in split.split("+")])
    assert sorted(map(bytes, whole)) == sorted(map(bytes, stored))


# -- classes --------------------------------------------------------------------------------------

NAMES = ["plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    """`own`: one split of 50 images, sorted by class, whose classes have names; `plain`: none."""
    root = tmp_path_factory.mktemp("named")
    labels = np.repeat(np.arange(10), 5)
    for name, label in {"own": tfds.features.ClassLabel(names=NAMES), "plain": None}.items():
        write_tfds(root, name, "1.0.0", {"train": (noise(50, 2, 2), labels)}, label=label)
    return root


@pytest.mark.parametrize(
    ("name", "specs", "fragments"),
    [
        (
            "own",
            ("train[:80%]", "train[80%:90%]", "train[90%:]"),
            ["data.valid='train[80%:90%]'", "data.train='train[:80%]' lacks: 'ship';"],
        ),
        (
            "own",
            ("train[1:20]", "train[20:]", "train[:1]"),
            ["data.valid='train[20:]'", "lacks: 'deer', 'dog', 'frog', 'horse', 'ship', ...;"],
        ),
        (
            "own",
            ("train[:44]", "train[44:45]", "train[45:]"),
            ["data.test='train[45:]'", "data.train='train[:44]' lacks: 'truck';"],
        ),
        ("plain", ("train[:45]", "train[45:48]", "train[48:]"), ["data.valid=", "lacks: '9';"]),
    ],
)
def test_classes_that_training_never_sees_are_refused(named, name, specs, fragments):
    specs = dict(zip(("train", "valid", "test"), specs))
    with pytest.raises(ValueError, match=r"^[^\n]+$") as error:
        load(named, name, **specs)
    for fragment in [*fragments, "sorted by class"]:
        assert fragment in str(error.value)


def test_digits_are_checked_too():
    with pytest.raises(ValueError, match=r"^data\.valid='valid' has classes that data\.train="):
        loading.load("digits", train="train[:4]", valid="valid", test="test")


def test_slices_of_all_classes_of_a_sorted_set_are_taken(named):
    fifths = ["+".join(f"train[{5 * k + i}:{5 * k + j}]" for k in range(10)) for i, j in THIRDS]
    data = load(named, **dict(zip(("train", "valid", "test"), fifths)), shuffle_seed=-1)
    np.testing.assert_array_equal(data.fixed("train", 30)[1], np.repeat(np.arange(10), 3))
    assert data.sizes == (30, 10, 10)


THIRDS = [(0, 3), (3, 4), (4, 5)]


@st.composite
def small_sets(draw):
    """(stored images, labels, sizes, channels, K): a few images, sorted or not, classes missing."""
    num_classes = draw(st.integers(1, 12))
    classes = draw(st.lists(st.integers(0, num_classes - 1), min_size=1, max_size=4))
    sizes = draw(st.tuples(*[st.integers(1, 7)] * 3))
    size = st.integers(1, 4)
    shape = draw(st.tuples(st.just(sum(sizes)), size, size, st.integers(1, 4)))
    dtype = draw(st.sampled_from([np.uint8, np.uint16]))
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    images = rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    labels = rng.choice(classes, sum(sizes))
    labels = np.sort(labels) if draw(st.booleans()) else labels
    asked = draw(st.sampled_from([1, 3, 4] if shape[-1] < 3 else [3, 4]))
    return images, labels, sizes, asked, num_classes


@examples(80)
@given(made=small_sets(), seed=st.sampled_from([-1, 0, 1]))
def test_a_small_set_is_read_as_it_is_or_refused(tmp_path_factory, made, seed):
    images, labels, sizes, asked, num_classes = made
    root = tmp_path_factory.mktemp("small")
    stored = [png(image) for image in images], labels
    write_tfds(root, "own", "1.0.0", {"train": stored}, channels=asked, num_classes=num_classes)
    ends = np.cumsum(sizes)
    specs = (f"train[:{ends[0]}]", f"train[{ends[0]}:{ends[1]}]", f"train[{ends[1]}:]")
    parts = dict(zip(("train", "valid", "test"), np.split(np.arange(ends[-1]), ends[:-1])))
    given_specs = {**dict(zip(parts, specs)), "image_size": None, "shuffle_seed": seed}
    data = refused(lambda: load(root, **given_specs), naming="lacks: '")
    unseen = set(labels) - set(labels[parts["train"]])
    assert (data is None) == bool(unseen)
    if data is None:
        return
    expected = colours_of(images, asked)
    train = expected[parts["train"]] / 255
    np.testing.assert_allclose(data.mean, train.mean((0, 1, 2)), atol=1e-9)
    np.testing.assert_allclose(data.std, np.maximum(train.std((0, 1, 2)), 1 / 255), atol=1e-9)
    for split, numbers in parts.items():
        order = np.arange(len(numbers))
        if seed >= 0:
            order = np.random.default_rng((seed, zlib.crc32(split.encode()))).permutation(order)
        got, classes = data.fixed(split, len(numbers))
        np.testing.assert_array_equal(got, expected[numbers][order])
        np.testing.assert_array_equal(classes, labels[numbers][order])


# -- features of other names ----------------------------------------------------------------------


def test_features_of_other_names_are_read_by_their_keys(tmp_path):
    images, labels = noise(20, 4, 4), np.arange(20) % 5
    for name, keys in {"own": ("image", "label"), "other": ("picture", "species")}.items():
        splits = {"train": (images, labels)}
        write_tfds(tmp_path, name, "1.0.0", splits, num_classes=5, keys=keys)
    slices = {"train": "train[:10]", "valid": "train[10:15]", "test": "train[15:]"}
    options = {**slices, "image_size": None}
    own = load(tmp_path, **options)
    other = load(tmp_path, "other", **options, image_key="picture", label_key="species")
    assert other.fingerprint == own.fingerprint
    assert other.class_names == own.class_names
    with pytest.raises(ValueError, match=r"features picture, species, .*data\.image_key and"):
        load(tmp_path, "other", **options)
    with pytest.raises(ValueError, match="8-bit image 'picture' and a class 'name'"):
        load(tmp_path, "other", **options, image_key="picture", label_key="name")
