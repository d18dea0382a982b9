"""Sections of the page, each of them Markdown with its figures drawn."""
