"""Layers of all networks, and where masks meet activations."""
