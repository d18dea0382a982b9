"""The training of networks: one step, the loop around it, and what trains a supernet."""
