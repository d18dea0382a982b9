"""How scoring scales: candidates, images, cells, F and devices, one at a time; draws a figure."""

import copy

import matplotlib
import matplotlib.pyplot as plt
from matplotlib import ticker

from benchmarks import harness, scoring
from benchmarks.workload import Workload
from nas_jax.runtime import rng

_SWEPT = {
    "candidates": [1, 4, 16, 64],
    "images": [16, 64, 256],
    "cells": [3, 6, 9],
    "filters": [8, 16, 32],
}
_FIGURE = "docs/figures/scaling.png"


def run(args) -> None:
    """Ours and PyTorch's architectures per second while one number changes."""
    curves = {}
    for name, values in _SWEPT.items():
        curves[name] = [_at(args, name, value) for value in values]
    _draw(curves)


def _at(args, name, value):
    args = copy.copy(args)
    count = 64
    if name == "images":
        count = value
    else:
        setattr(args, name, value)
    workload = Workload(args)
    archs = workload.space.sample(rng.key(1), (args.candidates,))
    compared = scoring.functions(workload, workload.images(count), archs, args.executions)
    case = f"scoring, {name} {value}, {args.threads} threads, {args.devices} devices"
    return harness.compare(
        args, case, compared, work=args.candidates, unit="architectures", images=count
    )


def _draw(curves):
    matplotlib.use("agg")
    size = (3 * len(curves), 3)
    figure, axes = plt.subplots(1, len(curves), figsize=size, layout="constrained", sharey=True)
    labels = {"candidates": "candidates per call", "images": "images", "filters": "F"}
    for axis, (name, points) in zip(axes, curves.items()):
        for function in points[0]:
            axis.plot(_SWEPT[name], [point[function] for point in points], "o-", label=function)
        axis.set(xscale="log", yscale="log", xlabel=labels.get(name, name))
        axis.set_xticks(_SWEPT[name], _SWEPT[name], minor=False)
        axis.minorticks_off()
        axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("architectures per second")
    axes[0].legend()
    figure.savefig(_FIGURE, dpi=120)
    plt.close(figure)
