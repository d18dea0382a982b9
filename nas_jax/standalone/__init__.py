"""Stand-alone networks: which architectures are trained alone, how, and with which widths."""
