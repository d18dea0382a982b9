"""ImageNet, streamed from TFDS by grain: decoded, cropped and resized on the host."""

import functools
from collections.abc import Iterator

import numpy as np

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
WORKER_THREADS = 16


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 [H, W, C] -> [height, width, C], bilinear with antialiasing."""
    from PIL import Image

    squeezed = image[..., 0] if image.shape[-1] == 1 else image
    resized = Image.fromarray(squeezed).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized).reshape(height, width, image.shape[-1])


def random_resized_crop(image: np.ndarray, size: int, generator: np.random.Generator):
    """A window of 8-100 % of the area and aspect 3/4 to 4/3, resized to size x size."""
    height, width, _ = image.shape
    for _ in range(10):
        area = height * width * generator.uniform(0.08, 1)
        aspect = np.exp(generator.uniform(np.log(3 / 4), np.log(4 / 3)))
        w, h = round(np.sqrt(area * aspect)), round(np.sqrt(area / aspect))
        if 0 < h <= height and 0 < w <= width:
            top, left = generator.integers(height - h + 1), generator.integers(width - w + 1)
            return resize(image[top : top + h, left : left + w], size, size)
    return centre_crop(image, size)


def centre_crop(image: np.ndarray, size: int) -> np.ndarray:
    """The middle size x size after the shorter side is resized to 8/7 of `size`."""
    height, width, _ = image.shape
    factor = size * 8 / 7 / min(height, width)
    height, width = max(round(height * factor), size), max(round(width * factor), size)
    top, left = (height - size) // 2, (width - size) // 2
    return resize(image, height, width)[top : top + size, left : left + size]


class ImageNet:
    """A stream of uint8 images [size, size, 3]; the interface is that of `data.Data`."""

    name, mean, std = "imagenet2012", MEAN, STD

    def __init__(self, builder, ranges: dict[str, tuple[str, int, int]], image_size: int):
        self.num_classes = builder.info.features["label"].num_classes
        self.image_shape = (image_size, image_size, 3)
        self._builder, self._ranges = builder, ranges

    def num_images(self, split: str) -> int:
        """Number of images of a split, or of splits joined by '+'."""
        return sum(end - first for _, first, end in map(self._ranges.get, split.split("+")))

    def batches(
        self, split: str, batch_size: int, *, seed: int, start: int = 0, shard=(0, 1)
    ) -> Iterator[dict[str, np.ndarray]]:
        """See `data.Data.batches`; crops are a function of (seed, epoch, image)."""
        import grain

        part, parts = shard
        num_images, local = self.num_images(split), batch_size // parts
        per_epoch = num_images // batch_size

        def epoch_of(position):
            return position // (per_epoch * local)

        def image(position):
            """The image at a position of this process's endless stream."""
            epoch, place = epoch_of(position), position % (per_epoch * local)
            row = place // local * batch_size + part * local + place % local
            number = int(_order(num_images, seed, epoch)[row])
            generator = np.random.default_rng((seed, epoch, number))
            crop = functools.partial(random_resized_crop, generator=generator)
            return self._load(split, number, crop)

        endless = grain.MapDataset.range(0, 2**62).map(image).batch(local)
        options = grain.ReadOptions(num_threads=WORKER_THREADS)
        return iter(endless[start:].to_iter_dataset(options))

    def fixed(self, split: str, num_images: int) -> tuple[np.ndarray, np.ndarray]:
        """See `data.Data.fixed`; centre crops."""
        if num_images > self.num_images(split):
            raise ValueError(f"{num_images} images asked of {split}: {self.num_images(split)}")
        rows = [self._load(split, number, centre_crop) for number in range(num_images)]
        return np.stack([r["image"] for r in rows]), np.stack([r["label"] for r in rows])

    def _load(self, split, number, crop):
        for name in split.split("+"):
            stored, first, end = self._ranges[name]
            if number < end - first:
                row = self._source(stored)[first + number]
                image = crop(row["image"], self.image_shape[0])
                return {"image": image, "label": np.int32(row["label"])}
            number -= end - first
        raise IndexError(f"{split} has no image {number}")

    @functools.cache  # noqa: B019 - a data set lives as long as the program
    def _source(self, stored):
        return self._builder.as_data_source(split=stored)


@functools.lru_cache(4)
def _order(num_images, seed, epoch):
    return np.random.default_rng((seed, epoch)).permutation(num_images)
