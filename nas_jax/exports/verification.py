"""Whether an export does what the network did: its accuracy, and the logits of each form.

The accuracy is reproduced as it was measured, at the dtype of the training. Forms are compared with
the network at float32, on the CPU: accelerators round products.
"""

import contextlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from nas_jax import naming
from nas_jax.data import augment
from nas_jax.data.dataset import Data
from nas_jax.exports import inputs
from nas_jax.exports.forms import Logits
from nas_jax.exports.inputs import Preparation
from nas_jax.exports.workdirs import Facts, Finished
from nas_jax.nn.network import Network
from nas_jax.oneshot import class_metrics
from nas_jax.standalone import evaluation

TOLERANCE = 1e-5  # of logits, relative to the largest
MOST_COMPARED = 1000  # images on which forms are compared
MOST_FILES = 16  # of which pixels are compared
NUM_RANDOM = 64  # images of random pixels, where the data set cannot be read
# Share of the images that may be judged otherwise, by dtype: networks that train together are
# evaluated in another program, whose sums are rounded otherwise.
_ROUNDED = {"float32": 0.002, "bfloat16": 0.01, "float16": 0.01}


def reproduced(
    config: ConfigDict, net: Network, variables: Any, data: Data, finished: Finished
) -> dict[str, Any]:
    """Evaluate a network as its result.json was made, and compare.

    The dtype is that of result.json, else of the config. Where neither names one, that of this
    machine is tried, then that of the other kind, which must agree as closely as float32.

    Args:
      config: of the run.
      net: with running statistics.
      variables: its params and batch_stats.
      data: the images.
      finished: the network, whose result.json counts.

    Returns: what model.json says of it; "equal" is whether it is within rounding.

    Raises: ValueError if result.json names another dtype.
    """
    measured = finished.result.get("dtype")
    if measured:
        naming.check(f"dtype of {finished.path}/result.json", measured, _ROUNDED)
    dtype = measured or np.dtype(net.dtype).name
    rest = config, net, variables, data, finished
    found = _at_dtype(dtype, _ROUNDED[dtype], *rest)
    if found["equal"] or measured or config.network.dtype != "auto":
        return found
    other = "bfloat16" if dtype == "float32" else "float32"
    again = _at_dtype(other, _ROUNDED["float32"], *rest)
    return again if again["equal"] else found


def _at_dtype(dtype, share, config, net, variables, data, finished):
    split = finished.split
    counts = evaluation.class_counts(
        net.clone(dtype=jnp.dtype(dtype)),
        variables,
        data.in_order(split, config.retrain.eval_batch_size),
        prepare=augment.standardiser(data),
    )
    num_images, metric = data.num_images(split), config.metric
    accuracy = float(class_metrics.of_counts("accuracy", counts))
    differing = round(abs(accuracy - finished.accuracy) * num_images)
    allowed = max(1, int(share * num_images))
    found = {
        "split": split,
        "num_images": num_images,
        "dtype": dtype,
        "accuracy": accuracy,
        "accuracy_of_result_json": finished.accuracy,
        "differs_by_images": differing,
        "may_differ_by_images": allowed,
        "equal": differing <= allowed,
    }
    if metric != "accuracy":
        found[metric] = float(class_metrics.of_counts(metric, counts))
        found[f"{metric}_of_result_json"] = finished.result[f"{split}_{metric}"]
    return found


def difference(checked: Mapping[str, Any]) -> str:
    """Say in a line what differs of `verification` in model.json; "" if nothing does."""
    images = f"{checked['compared_on']['num_images']} images ({checked['compared_on']['images']})"
    for name, form in checked["forms"].items():
        if not form["equal"]:
            classes = "equal" if form["classes_equal"] else "other"
            return (
                f"{name} does not do what the network does: logits differ by "
                f"{form['largest_relative_difference']:.2g} of the largest (at most "
                f"{TOLERANCE:g}), with {classes} classes, on {images}"
            )
    if (file := checked.get("preprocessing", {}).get("differs")) is not None:
        return (
            f"predictions would read {file} otherwise than the training did, so they would not be "
            "the network's; give the data set that the run had as data="
        )
    again = checked.get("accuracy", {"equal": True})
    if again["equal"]:
        return ""
    return (
        f"the network's accuracy is {again['accuracy']:.4f} on {again['num_images']} images of "
        f"{again['split']}, not {again['accuracy_of_result_json']:.4f} as its result.json says "
        f"(dtype {again['dtype']})"
    )


def prepared(facts: Facts, data: Data, split: str) -> dict[str, Any]:
    """Compare how predictions read the files of images with what the training made of them.

    Args:
      facts: on the images.
      data: the images.
      split: of which some are compared.

    Returns: what model.json says of it: how many files were compared, which is read otherwise (or
      None), and "equal". A set of arrays has no files.
    """
    preparation = Preparation(facts.image_shape, facts.read_as)
    count = min(MOST_FILES, data.num_images(split))
    images, _ = data.fixed(split, count)
    found = {"num_files": 0, "differs": None, "equal": True}
    for image, record in zip(images, data.fixed_records(split, count).tolist()):
        name, encoded = inputs.file_of(data, record)
        if encoded is None:
            continue
        found["num_files"] += 1
        if not _is_read_as(preparation, encoded, image):
            return {**found, "differs": name, "equal": False}
    return found


def _is_read_as(preparation, encoded, image):
    try:
        return np.array_equal(preparation.decoded(encoded), image)
    except ValueError:  # of another size than is taken
        return False


def images_of(data: Data | None, facts: Facts, split: str) -> tuple[np.ndarray, str]:
    """Return images uint8 [N, H, W, C] on which forms are compared, and the split, or what else."""
    if data is None:
        random = np.random.default_rng(0).integers(0, 256, (NUM_RANDOM, *facts.image_shape))
        return random.astype(np.uint8), "random pixels"
    count = min(MOST_COMPARED, data.num_images(split))
    return data.fixed(split, count)[0], split


def compared(network: Logits, forms: Mapping[str, Logits], images: np.ndarray) -> dict[str, Any]:
    """Compare the logits of each form with those of the network, on the CPU.

    Returns: by form the largest difference, relative to the largest logit, whether all classes are
      equal, and "equal": both are within `TOLERANCE`. Two classes whose logits differ by less than
      that may change places.
    """
    with _on_cpu():
        wanted = np.asarray(jax.jit(network)(images))
        found = {
            name: _difference(wanted, np.asarray(_called(name, form, images)))
            for name, form in forms.items()
        }
    return found


def _called(name, form, images):
    return form(images) if name.endswith(".onnx") else jax.jit(form)(images)


def _difference(wanted, got):
    largest = float(np.abs(wanted).max())
    relative = float(np.abs(wanted - got).max() / max(largest, np.finfo(np.float32).tiny))
    rows, classes = np.arange(len(wanted)), got.argmax(-1)
    behind = wanted.max(-1) - wanted[rows, classes]  # of what the form takes for the likeliest
    same = bool(np.all(behind <= TOLERANCE * largest))
    return {
        "largest_relative_difference": relative,
        "classes_equal": same,
        "equal": relative <= TOLERANCE and same,
    }


@contextlib.contextmanager
def _on_cpu():
    try:
        cpu = jax.devices("cpu")[0]
    except RuntimeError:  # JAX_PLATFORMS has no CPU
        with jax.default_matmul_precision("highest"):
            yield
        return
    with jax.default_device(cpu):
        yield
