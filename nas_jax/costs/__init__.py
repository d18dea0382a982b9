"""What networks cost: parameters, multiply-adds, latency; widths, and limits on all of these."""
