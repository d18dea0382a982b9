"""Temporary: what does not follow the rules of names and docstrings yet.

What is mended leaves the list, and this file goes when it is empty.
"""

MODULES_TO_COME = ("training.variants",)  # that docs/glossary.md names already
FIELDS_TO_COME = ("supernet.variant", "supernet.variant_options")  # that the documents name already


def _names(lines):
    """All names of lines such as "module name name"."""
    rows = [line.split() for line in lines.splitlines() if line.strip()]
    return tuple(f"{module}.{name}" for module, *names in rows for name in names)


# Public names with a retired word (test_glossary).
RETIRED_WORDS = _names("""

""")

# Public functions whose docstring does not begin with a verb (test_docs).
NO_VERB = _names("""

""")
