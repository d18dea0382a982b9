"""Configs of studies; `base` has what they share."""
