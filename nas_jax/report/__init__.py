"""What a run found, as a page: its numbers, its statistics, its figures."""
