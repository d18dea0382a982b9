"""What ranks a table's architectures: a supernet, training-free proxies, ensembles of them.

python launch.py --config=configs/studies/signals.py:nasbench201 --mode=study      an hour, 2 cores
python launch.py --config=configs/studies/signals.py:nasbench_macro --mode=study

Members and the way to combine them were chosen on the first half of NAS-Bench-201's table, drawn by
the architectures' hashes (`--config.study.half=first`); the second half is the one that reports.
The tables and CIFAR-10 as for configs/nasbench201.py.
"""

from nas_jax import config as config_lib

BENCHMARKS = ("nasbench201", "nasbench_macro")
_PROXIES = (
    *("grad_norm", "snip", "synflow", "jacob_cov", "naswot", "zen", "zico"),
    *("expressivity", "progressivity", "trainability"),
)
_FREE = ("synflow", "jacob_cov", "naswot", "progressivity")


def get_config(variant="nasbench201"):
    """The supernet of the benchmark's own config, small; proxies on one cell in each stage."""
    config_lib.check_variant(__file__, variant, BENCHMARKS)
    c = config_lib.load(f"{variant}:small")
    c.study.pool = "runs/pool-tables"
    c.study.parts = ("signals",)
    c.study.half = "second"
    if variant == "nasbench201":
        c.sweep.proxy.space = (("num_stages", 3),)
    c.sweep.ensemble.combine = "geometric"
    ensemble = ("sweep.score", "ensemble")
    c.study.variants = (
        ("one-shot accuracy",),
        *((name, ("sweep.score", name)) for name in _PROXIES),
        ("ensemble, training-free", ensemble, _members(*_FREE)),
        ("ensemble with one-shot accuracy", ensemble, _members(*_FREE, "accuracy")),
    )
    return c


def _members(*names):
    return "sweep.ensemble.members", tuple((name, 1.0) for name in names)
