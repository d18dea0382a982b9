"""Shared weights: drawing masks to train them, and evaluating architectures with them."""
