"""Tables of published accuracies: `python -m nas_jax.tables` writes one, see `spaces.tabular`."""

from nas_jax.spaces.tabular import Table, digest, load, main

__all__ = ["Table", "digest", "load", "main"]

if __name__ == "__main__":
    main()
