"""Search strategies at equal budget: random search with path dropout against all others.

python launch.py --config=configs/studies/strategies.py:digits --mode=study    1.5 h on two cores
python launch.py --config=configs/studies/strategies.py:small --mode=study     CIFAR-10, on a CPU
python launch.py --config=configs/studies/strategies.py --mode=study           CIFAR-10

The budget is images trained on plus images scored on. ENAS's controller learns from candidates that
are scored while the supernet trains, and so do populations; the others spend as much on more
candidates, or on a longer training. The members of a population share what one supernet has. DARTS
and GDAS spend all on steps of weights and alphas, whose one architecture is scored.
"""

from nas_jax import config as config_lib

_LIGHT = (
    ("supernet.variant_options", (("basis", 4),)),
    ("supernet.sampler", "single_path"),
)


def get_config(variant=""):
    """The two best architectures of every search, the one of DARTS and GDAS, are trained alone."""
    config_lib.check_variant(__file__, variant, ("digits", "small", ""))
    if variant == "digits":
        c = config_lib.load("digits")
        c.study.pool = "runs/pool-digits"
        c.sweep.batch_size = 64
    else:
        c = config_lib.load(f"studies/_base:{variant}")
    c.study.parts = ("strategies",)
    c.study.num_seeds = 5
    if variant == "small":
        _shorten(c)
    c.retrain.final.filters = c.retrain.final.filters[:1]
    for group in c.retrain.final.groups:
        c.retrain.final.groups[group] = 0
    c.retrain.final.groups.top = 2
    c.study.variants = _variants(c, c.supernet.train.num_steps)
    return c


def _shorten(c):
    """Fewer steps, candidates and images than in the other studies: there are eleven searches."""
    c.study.num_seeds = 2
    c.supernet.train.num_steps = 1055  # three epochs
    c.supernet.strategy_every = 25
    c.sweep.num_candidates = 256
    c.sweep.num_images = 500
    c.retrain.final.num_seeds = 1


def _variants(c, num_steps):
    """All look at as many images, up to the rounding of a candidate or a batch."""
    rounds = num_steps // c.supernet.strategy_every
    learnt_from = rounds * c.sweep.candidates_per_batch * c.sweep.batch_size
    candidates = c.sweep.num_candidates + learnt_from // c.sweep.num_images
    steps = num_steps + learnt_from // c.supernet.train.batch_size
    more = ("sweep.num_candidates", candidates)
    budget = num_steps * c.supernet.train.batch_size + learnt_from  # beside the candidates
    evolution, enas = (("sweep.strategy", name) for name in ("evolution", "enas"))
    smash, morphnet = (("supernet.variant", name) for name in ("smash", "morphnet"))
    return (
        ("random search, more candidates", more),
        ("random search, longer training", ("supernet.train.num_steps", steps)),
        ("evolution", evolution, more),
        ("ENAS's controller on path dropout", enas, more),
        ("ENAS", enas, ("supernet.sampler", "strategy")),
        ("SMASH", smash, more),  # with its recipe
        ("light SMASH", smash, more, *_LIGHT),
        ("PBT", *_population(c, budget)),
        ("MorphNet", morphnet, more),
        ("DARTS", *_by_gradient(c, budget)),
        ("GDAS", *_by_gradient(c, budget, ("sample", "gumbel"))),
    )


def _population(c, budget, members=4):
    """The fields of a population that trains and scores on `budget` images, and on what is left of
    them scores more candidates.
    """
    every = 5 * c.supernet.strategy_every
    images = every * c.supernet.train.batch_size + c.sweep.candidates_per_batch * c.sweep.batch_size
    turns = budget // (members * images)
    left = budget - turns * members * images
    return (
        ("supernet.variant", "pbt"),
        ("supernet.variant_options", (("population", members),)),
        ("supernet.strategy_every", every),
        ("supernet.train.num_steps", turns * every),
        ("sweep.num_candidates", c.sweep.num_candidates + left // c.sweep.num_images),
    )


def _by_gradient(c, budget, *options):
    """The fields of a search by alphas: a step of theirs has as many images as one of the weights.

    The papers' rate is for tens of thousands of steps; here there may be fewer.
    """
    budget += (c.sweep.num_candidates - 1) * c.sweep.num_images
    steps = budget // (2 * c.supernet.train.batch_size)
    if steps < 10_000:
        options += (("learning_rate", 0.03),)
    return (
        ("supernet.variant", "darts"),
        ("supernet.variant_options", options),
        ("supernet.train.num_steps", steps),
        ("sweep.num_candidates", 1),
    )
