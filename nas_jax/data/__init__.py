"""Images and labels: data sets, their splits in memory or streamed, augmentation."""

from nas_jax.data.arrays import from_arrays

__all__ = ["from_arrays"]
