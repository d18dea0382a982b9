"""Pages that are written from the source when the site is built."""

from pathlib import Path


def write(folder, pages):
    """Write {name: Markdown} into a folder; those that are there and equal stay, others go."""
    Path(folder).mkdir(exist_ok=True)
    for old in Path(folder).glob("*.md"):
        if old.stem not in pages:
            old.unlink()  # of a module that is gone
    for name, text in pages.items():
        target = Path(folder, f"{name}.md")
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            target.write_text(text, encoding="utf-8")
