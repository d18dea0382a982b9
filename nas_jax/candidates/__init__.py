"""The search: ask a strategy for architectures, evaluate them, tell it, write trials.jsonl."""
