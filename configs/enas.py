"""ENAS: a controller draws the architectures that the supernet is trained on, and learns from them.

  python launch.py --config=configs/enas.py           CIFAR-10, for one accelerator
  python launch.py --config=configs/enas.py:digits    the embedded digits, about ten minutes on two
                                                      CPU cores

The values are those of Pham et al. (ICML 2018), and of its published code where the paper is
silent. After each epoch of the supernet the controller has 200 steps of ten architectures each. The
paper says 2,000 steps, and not of how many; this reads them as 2,000 architectures, since the
published code makes its steps of ten or twenty (cells: 30 steps of ten). At the end it draws ten
architectures, and the best of them on one validation batch is trained alone. The cosine of the
learning rate starts anew after 10, 30, 70 and 150 of the 310 epochs.
"""

from nas_jax import config as config_lib

PAPER = (
    ("hidden", 100),
    ("learning_rate", 0.00035),
    ("temperature", 5.0),
    ("bound", 2.5),
    ("entropy", 0.0),  # no bonus: the entropy is in the reward
    ("reward_entropy", 0.1),
    ("init_range", 0.1),
)
CODE = (("baseline", "each"), ("baseline_decay", 0.99), ("adam", "published"))
VARIANTS = ("digits", "")


def get_config(variant=""):
    """The space, the data and the final training are those of the other config."""
    config_lib.check_variant(__file__, variant, VARIANTS)
    c = config_lib.load(variant or "cifar")
    c.sweep.strategy = "enas"
    c.sweep.options = PAPER + CODE
    c.supernet.sampler = "strategy"
    c.supernet.strategy_every = 0  # an epoch
    c.supernet.strategy_rounds = 200
    c.sweep.candidates_per_batch = c.sweep.num_candidates = 10
    c.sweep.batch_size = c.sweep.num_images = 128  # the final pick: one batch
    c.supernet.strategy_images = 4992  # 39 batches: those of the controller follow each other
    train = c.supernet.train
    if variant == "digits":
        c.supernet.strategy_rounds = 30
        c.supernet.strategy_images = 256
        train.ghost_batch_size = train.batch_size  # an architecture for a batch
    else:
        _train_as_published(train)
    config_lib.retrain_nothing(c)
    c.retrain.final.groups.top = 1
    c.retrain.selection.top_pool = 1
    return c


def _train_as_published(train):
    train.batch_size = train.ghost_batch_size = 128  # an architecture for a batch
    train.base_lr = 0.4  # 0.05 at a batch of 128
    train.schedule = "warm_restarts"
    train.warmup_share = 0.0
    train.num_steps = 0
    train.num_epochs = 310.0
    train.l2_unused = train.l2_norm_params = True  # it falls on all parameters
