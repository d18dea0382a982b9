"""Speed measured side by side with its baselines: `python -m benchmarks --help`."""
