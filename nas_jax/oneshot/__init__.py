"""Shared weights: how masks are drawn while they are trained, and how they score architectures."""
