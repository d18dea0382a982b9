"""Fields against data, space and devices: what does not fit is said before anything compiles."""

import types

import pytest

from nas_jax import spaces
from nas_jax.config import validation
from tests import trainings
from tests.config.files import changed


class FakeData(types.SimpleNamespace):
    image_shape = (16, 16, 1)

    def num_images(self, split):
        return {"train": 6000, "valid": 3000, "train+valid": 9000}[split]


def check_sizes(*fields, num_devices=1, **data):
    config = changed(*fields)
    space = spaces.make(**config.space.to_dict())
    validation.sizes(config, space, FakeData(**data), num_devices)


@pytest.mark.parametrize("num_devices", [1, 2, 4])
def test_the_sizes_of_the_digits_fit(num_devices):
    check_sizes(num_devices=num_devices)  # 64 images in ghost batches of 16: four groups


@pytest.mark.parametrize(
    ("fields", "options", "message"),
    [
        # 4 ghost batches on 8 devices; each of them wants one of 16 images
        ({}, {"num_devices": 8}, "supernet.train: 4 ghost .* 8 devices; .* multiple of 128"),
        (
            {"supernet.train.batch_size": 48},
            {"num_devices": 2},
            r"3 ghost batches \(48 / 16\) do not divide among 2 devices; .* multiple of 32",
        ),
        ({"supernet.train.batch_size": 6016}, {}, "batch_size=6016 is more than the 6000 .*train"),
        # the short protocol trains on train, the final one on train + valid
        ({"retrain.short.train.batch_size": 6016}, {}, "retrain.short.*6016 .* 6000 images"),
        ({"retrain.final.train.batch_size": 9008}, {}, "final.*9008 .*9000 images of train.valid"),
        (
            {"sweep.score": "kl", "sweep.kl.num_images": 6001},
            {},
            "sweep.kl.num_images=6001, but the training split .* has 6000",
        ),
        ({"sweep.num_images": 3072}, {}, "sweep.num_images=3072, but .* has 3000"),
        ({"sweep.num_images": 200}, {}, "num_images=200 is not a multiple .*batch_size=128"),
        ({"sweep.candidates_per_batch": 3}, {"num_devices": 2}, "candidates_per_batch=3 .* 2 dev"),
        ({}, {"image_shape": (15, 15, 1)}, "images of 15x15 pixels .* of 2"),
        (
            {"space.stem_stride": 4},
            {"image_shape": (12, 12, 1)},
            "of 12x12 .* multiples of 8",
        ),
    ],
)
def test_sizes_that_do_not_fit_are_named(fields, options, message):
    with pytest.raises(ValueError, match=message):
        check_sizes(*fields.items(), **options)


def test_the_final_protocol_may_take_more_than_the_training_split():
    check_sizes(("retrain.final.train.batch_size", 6016))


# Eight ghost batches of 16, for any number of devices that divides eight.
FOR_8_DEVICES = [
    (f"{section}.batch_size", 128)
    for section in ("supernet.train", "retrain.short.train", "retrain.final.train")
]


def test_build_gives_the_space_and_the_data_of_a_config():
    config = changed(*FOR_8_DEVICES)
    config, space, data = trainings.build(config)
    assert space == spaces.make(**config.space.to_dict())
    assert (data.name, data.image_shape, data.num_images("train")) == ("digits", (16, 16, 1), 6000)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("space.name", "cel", "space.name='cel'.*nearest: '?cell"),
        ("sweep.strategy", "randm_search", "sweep.strategy='randm_search'.*nearest: '?random"),
        ("data.name", "digit", "data.name='digit'.*nearest: '?digits"),
        ("data.name", "npz:", "data.name='npz:' names no path: write npz:PATH"),
        ("data.fractions", "abc", "data.fractions='abc' must be of type tuple"),
        ("data.fractions", ("a", "b", "c"), r"data.fractions=\('a', 'b', 'c'\) must hold float"),
        ("data.fractions", (0.5,), r"data.fractions=\(0.5,\) must be three numbers above 0"),
        ("data.image_size", 4.0, "data.image_size=4.0 must be of type int"),
        ("data.split_seed", -1, "data.split_seed=-1 must be 0 or more"),
        ("data.shuffle_seed", -5, "data.shuffle_seed=-5 must be .* or -1: as stored"),
        ("data.memory_gb", -1.0, "data.memory_gb=-1.0 must be 0 or more"),
        ("data.valid", "train[5000:]", "data.train='train' and data.valid=.* overlap"),
        ("supernet.filters", 0, "config.supernet.filters=0 must be 1 or more"),
    ],
)
def test_build_refuses_before_anything_compiles(field, value, message):
    with pytest.raises(ValueError, match=message):
        trainings.build(changed(*FOR_8_DEVICES, (field, value)))
