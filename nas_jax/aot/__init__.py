"""Programs of a run, compiled ahead of time (AOT) for accelerators that need not be there."""
