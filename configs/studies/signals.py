"""What ranks a table's architectures: a supernet, training-free proxies, ensembles, a surrogate.

python launch.py --config=configs/studies/signals.py:nasbench201 --mode=study      an hour, 2 cores
python launch.py --config=configs/studies/signals.py:nasbench_macro --mode=study   as long
python launch.py --config=configs/studies/signals.py:supernets --mode=study        two hours

The last compares supernets that are to rank better, on NAS-Bench-201. Members and the way to
combine them were chosen on the first half of each table, drawn by the architectures' hashes
(`--config.study.half=first`); the second half is the one that reports. Another seed is
`--config.seed=1 --config.sweep.seed=1`. The tables and CIFAR-10 as for configs/nasbench201.py.
"""

from nas_jax import config as config_lib

BENCHMARKS = ("nasbench201", "nasbench_macro")
_PROXIES = (
    *("grad_norm", "snip", "synflow", "jacob_cov", "naswot", "zen", "zico"),
    *("expressivity", "progressivity", "trainability"),
)
_MEMBERS = {  # that need no training
    "nasbench201": ("synflow", "jacob_cov", "expressivity", "params", "shortest_path"),
    "nasbench_macro": ("naswot", "expressivity"),
}
_SPLIT = ("supernet.split.choices", ("edge0to3",))
_LANDMARKS = ("supernet.landmarks.count", 30)
_LONGER = ("supernet.train.num_epochs", 54.0)  # as long as the supernet and its five parts


def get_config(variant="nasbench201"):
    """The supernet of the benchmark's own config, small; proxies on one cell in each stage."""
    config_lib.check_variant(__file__, variant, (*BENCHMARKS, "supernets"))
    benchmark = BENCHMARKS[0] if variant == "supernets" else variant
    c = config_lib.load(f"{benchmark}:small")
    c.study.pool = "runs/pool-tables"
    c.study.parts = ("signals",)
    c.study.half = "second"
    if benchmark == "nasbench201":
        c.sweep.proxy.space = (("num_stages", 3),)
    c.sweep.ensemble.combine = "geometric"
    c.study.variants = _supernets() if variant == "supernets" else _signals(benchmark)
    c.study.surrogate_archs = 0 if variant == "supernets" else 100
    return c


def _signals(benchmark):
    ensemble, members = ("sweep.score", "ensemble"), _MEMBERS[benchmark]
    return (
        ("one-shot accuracy",),
        *((name, ("sweep.score", name)) for name in _PROXIES),
        ("ensemble, training-free", ensemble, _weighted(*members)),
        ("ensemble with one-shot accuracy", ensemble, _weighted(*members, "accuracy")),
    )


def _weighted(*names):
    return "sweep.ensemble.members", tuple((name, 1.0) for name in names)


def _supernets():
    return (
        ("one-shot accuracy",),
        ("validation loss", ("sweep.score", "loss")),
        ("training loss", ("sweep.score", "train_loss")),
        ("two checkpoints", ("sweep.num_checkpoints", 2)),
        ("trained for longer", _LONGER),
        ("few-shot", _SPLIT),
        ("30 landmarks", _LANDMARKS),
    )
