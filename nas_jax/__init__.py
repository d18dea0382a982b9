"""One-shot neural architecture search in JAX: an architecture is a pytree of masks.

Importing the package is cheap: a name of it brings JAX only when it is used.
"""

import importlib as _importlib
