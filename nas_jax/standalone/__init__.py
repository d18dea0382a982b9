"""Architectures that were found, trained alone: which, how, and with which widths."""
