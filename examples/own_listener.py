"""Hear what happens in a search: python own_listener.py

The same by the command: nas-jax --config=digits --config.listeners="('own_listener.py:Leader',)"
"""

import csv

import nas_jax

# Few steps and candidates, no stand-alone networks. Leave this out for the whole search.
QUICK = {
    "space.num_cells": 1,
    "space.num_blocks": 1,
    "supernet.train.num_steps": 50,
    "sweep.num_candidates": 64,
    "sweep.candidates_per_batch": 16,
    "retrain.short.num_seeds": 0,
    "retrain.final.num_seeds": 0,
}


class Leader:
    """Keeps leader.csv in the workdir: a line whenever a candidate is better than all before."""

    def __init__(self):
        self.best = float("-inf")

    def __call__(self, event):
        """Hear an event; most of them are none of our business."""
        if event.kind != "candidates":
            return
        for number, row in enumerate(event.values, event.step + 1):
            if row["value"] is not None and row["value"] > self.best:
                self.best = row["value"]
                with open(event.where / "leader.csv", "a", newline="") as file:
                    csv.writer(file).writerow([number, row["value"], row["arch"]])


def ended(event):
    """Say how a run ended; a function does for what needs no memory."""
    if event.kind == "end":
        print(event.values["status"])


if __name__ == "__main__":
    fields = QUICK | {"listeners": ("tensorboard", f"{__file__}:Leader")}
    options = {"workdir": "runs/own_listener", "on_event": ended}
    found = nas_jax.search("digits", fields=fields, **options)
    print(repr(found.best), found.paths["report"], sep="\n")
