"""What the one-shot model's other settings do for its ranking, and each op (not in the paper).

python launch.py --config=configs/studies/ablations.py[:small] --mode=study
"""

from nas_jax import config as config_lib


def get_config(variant=""):
    """See `configs/studies/_base.py`."""
    config_lib.check_variant(__file__, variant, ("small", ""))
    c = config_lib.load(f"studies/_base:{variant}")
    c.study.parts = ("supernets", "removal")
    train = c.supernet.train
    size, batch = train.ghost_batch_size, train.batch_size
    c.study.variants = (
        ("ramp to r = 0.1",),
        ("another seed", ("seed", 1)),
        *(_ghosts(n, batch // n) for n in (size // 2, size * 2, size * 4)),
        *(
            _ghosts(size, n // size, ("supernet.train.batch_size", n))
            for n in (batch // 2, batch * 2)
        ),
        ("cells drop their own paths", ("space.tied", False)),
        ("kept paths divided by 1 - rate", ("supernet.path_dropout.rescale", True)),
        ("L2 on all paths", ("supernet.train.l2_unused", True)),
        ("ReLU before BN", ("network.relu_before_bn", True)),
    )
    return c


def _ghosts(size, number, *more):
    label = f"{number} ghost batch{'es' if number > 1 else ''} of {size}"
    return (label, ("supernet.train.ghost_batch_size", size), *more)
