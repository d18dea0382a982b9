"""The cost of networks: parameters, multiply-adds, latency; limits on them, and widths."""
