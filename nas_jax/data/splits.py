"""Which records are for training, validation and test.

Sets of TFDS and the digits are sliced by TFDS's split strings. Sets of a user's own have the splits
that they come with; one that is missing is drawn from the training records, by fractions.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from nas_jax.data.records import SPLITS

FRACTIONS = (0.6, 0.2, 0.2)


def arrange(
    labels: np.ndarray,
    split: np.ndarray,
    class_names: Sequence[str],
    fractions: Sequence[float] = FRACTIONS,
    seed: int = 0,
) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Order records by split; a split without records is drawn from the training records.

    Drawing is stratified: of each class the splits get their fractions, to within one image, and
    one image at least. It depends on the arguments alone.

    Args:
      labels: int [N], in 0 .. K - 1.
      split: int [N], an index into SPLITS for each record.
      class_names: K, for errors.
      fractions: of train, valid and test. Only their ratios count where a split is given.
      seed: of the drawing.

    Returns:
      Numbers of the records, int [N], those of train first, then valid, then test; and the sizes of
      these three.

    Raises: ValueError that names the class and the split, if there is one class alone, a given
      split lacks a class, or a class has too few images to be divided.
    """
    if len(class_names) < 2:
        raise ValueError(
            f"there is only one class, {class_names[0]!r}; two or more are needed to tell apart"
        )
    drawn = [0, *(i for i in (1, 2) if not np.any(split == i))]
    _check_each_class(labels, split, class_names, drawn)
    split = split.copy()
    if len(drawn) > 1:
        shares = np.asarray(fractions, np.float64)[drawn]
        shares, carried = shares / shares.sum(), np.zeros(len(drawn))
        for label in range(len(class_names)):
            records = np.flatnonzero((split == 0) & (labels == label))
            counts = _counts(len(records), shares, carried)
            carried += len(records) * shares - counts
            order = np.random.default_rng((seed, label)).permutation(records)
            split[order] = np.repeat(drawn, counts)
    sizes = tuple(np.bincount(split, minlength=3).tolist())
    return np.argsort(split, kind="stable"), sizes


def _counts(num_images, shares, carried):
    """Divide images by shares, to within one image, into whole numbers of 1 or more.

    Remainders are rounded up where most is left, with what earlier classes left (`carried`): so
    the sums over the classes are right, too.
    """
    exact = num_images * shares
    counts = np.maximum(np.floor(exact + 1e-9).astype(int), 1)
    while (missing := num_images - counts.sum()) > 0:
        counts[np.argmax(np.where(counts < exact, exact - counts + carried, -np.inf))] += 1
    for _ in range(-missing):
        counts[np.argmax(np.where(counts > 1, counts - exact, -np.inf))] -= 1
    return counts


def _check_each_class(labels, split, class_names, drawn):
    """Check that no split lacks a class, and that each class can be divided among `drawn`."""
    for which, name in enumerate(SPLITS):
        counts = np.bincount(labels[split == which], minlength=len(class_names))
        if which in drawn[1:]:
            continue
        label = int(np.argmin(counts))
        if not counts[label]:
            raise ValueError(
                f"{name} has no image of the class {class_names[label]!r}; each split needs each "
                "class: add some, or leave the class out everywhere"
            )
        if which == 0 and counts[label] < len(drawn):
            parts = ", ".join(SPLITS[i] for i in drawn)
            raise ValueError(
                f"the class {class_names[label]!r} has {counts[label]} image(s) to be divided into "
                f"{parts}, which need one each at least: add some, or leave the class out"
            )


@contextlib.contextmanager
def naming(where: str) -> Iterator[None]:
    """Begin the text of a ValueError of the block with `where`, the set."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def repeated(keys: Sequence[Any], sizes: Sequence[int]) -> tuple[tuple[int, int] | None, int]:
    """Find records of different splits that have the same key.

    Args:
      keys: one for each record, in the order of `arrange`; None is equal to no other.
      sizes: of the three splits.

    Returns: the numbers of the first such pair, or None; and how many records repeat one of an
      earlier split.
    """
    which = np.repeat(np.arange(len(SPLITS)), sizes)
    first, pair, count = {}, None, 0
    for number, key in enumerate(keys):
        if key is None:
            continue
        before = first.setdefault(key, number)
        if which[before] != which[number]:
            pair, count = pair or (before, number), count + 1
    return pair, count


def name_of(record: int, sizes: Sequence[int]) -> str:
    """Return the split of a record, whose number is counted through train, valid and test."""
    return SPLITS[int(np.searchsorted(np.cumsum(sizes), record, side="right"))]
