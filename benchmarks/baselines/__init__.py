"""What the supernet is measured against: PyTorch, and JAX as one would first write it."""
