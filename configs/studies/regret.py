"""Search strategies in a table of published accuracies: regret against queries, 20 seeds.

python launch.py --config=configs/studies/regret.py:nasbench201 --mode=study       some minutes
python launch.py --config=configs/studies/regret.py:nasbench_macro --mode=study

The tables and CIFAR-10 as for configs/nasbench201.py and configs/nasbench_macro.py.
"""

from nas_jax import config as config_lib

BENCHMARKS = ("nasbench201", "nasbench_macro")


def get_config(variant="nasbench201"):
    """300 queries in rounds of ten; populations are small, as so few queries want them."""
    config_lib.check_variant(__file__, variant, BENCHMARKS)
    c = config_lib.load(variant)
    c.study.pool = "runs/pool-tables"
    c.study.parts = ("regret",)
    c.study.num_seeds = 20
    c.sweep.strategy = "random_search"
    c.sweep.score = "table"
    c.sweep.num_candidates = 300
    c.sweep.candidates_per_batch = 10
    evolution = ("sweep.strategy", "evolution")
    sizes = ("population", 20), ("tournament", 5)
    pairs = ("population", 20), ("tournament", 2), ("removal", "worst")
    optuna = ("sweep.strategy", "optuna")
    nsga = ("sampler", "NSGAII"), ("sampler_options", (("population_size", 20),))
    c.study.variants = (
        ("random search",),
        ("evolution", evolution, ("sweep.options", sizes)),
        ("evolution, crossover", evolution, ("sweep.options", (*sizes, ("crossover", 0.5)))),
        ("evolution, the worse of two dies", evolution, ("sweep.options", pairs)),
        ("ENAS's controller", ("sweep.strategy", "enas")),
        ("surrogate", ("sweep.strategy", "surrogate")),
        ("Optuna: TPE", optuna),
        ("Optuna: NSGA-II", optuna, ("sweep.options", nsga)),
    )
    return c
