"""Pages that are written from the source when the site is built."""

from pathlib import Path


def write(folder, pages):
    """Write {name: Markdown} into a folder; pages that are there and equal stay as they are."""
    Path(folder).mkdir(exist_ok=True)
    for name, text in pages.items():
        target = Path(folder, f"{name}.md")
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            target.write_text(text, encoding="utf-8")
