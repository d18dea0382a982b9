"""The config's sections `supernet` and `retrain`: the networks that are trained."""

from ml_collections import ConfigDict

from nas_jax.config.rules import ABOVE_0, PART, SHARE, Rule, at_least, items, one_of, within

MOST_WEIGHT = 1e6  # of a class
MOST_ARCHS_PER_STEP = 1000


def _train() -> ConfigDict:
    """Return a training's section; `num_steps` wins over `num_epochs` if it is not 0."""
    t = ConfigDict()
    t.batch_size = 1024  # images per step over all devices
    t.ghost_batch_size = 32  # images per ghost batch: batch statistics, and one draw of masks
    t.num_steps = 0
    t.num_epochs = 0.0
    t.base_lr = 0.1  # at a batch of 1024; scaled linearly with the batch
    # "sgd", or "adam" and "adamw" (their base_lr is lower, 1e-3 or so; the second decays weights
    # itself, in place of l2). The options are keyword arguments of the optimiser:
    # (("weight_decay", 0.05),).
    t.optimizer = "sgd"
    t.optimizer_options = ()
    # Or "constant", "step", "warm_restarts": five cosines, each twice as long as the one before.
    # Not in the paper.
    t.schedule = "cosine"
    t.warmup_share = 0.05  # of the steps; not in the paper
    t.momentum = 0.9
    t.nesterov = True
    t.clip_norm = 0.0  # global norm of the gradient, 0: no clipping; not in the paper
    t.l2 = 1e-4  # on parameters that a ghost batch uses; the coefficient is not in the paper
    t.l2_norm_params = False  # batch norm's scales and offsets too; not in the paper
    t.l2_unused = False  # also on parameters that it does not use; the paper warns of it
    t.loss = "cross_entropy"  # or "focal", with the option "gamma"
    t.loss_options = ()
    # A weight for each class, (1.0, 2.5); or ("balanced",): all classes count alike; (): all are 1.
    t.class_weights = ()
    t.label_smoothing = 0.0  # not in the paper
    # Decay of moving means of the weights, 0.999 or so, which are evaluated in place of the last
    # weights; 0: none are kept. Not in the paper.
    t.ema = 0.0
    t.augment = ConfigDict()  # not in the paper
    t.augment.flip = True
    t.augment.crop_padding = 4  # pixels
    t.augment.cutout = 0  # side in pixels
    t.augment.fn = "none"  # or a function of yours, "FILE.py:NAME", which comes first
    t.augment.mixup = 0.0  # alpha: shares of mixed images are of Beta(alpha, alpha); 0: none
    t.log_every = 100  # steps
    t.checkpoint_every = 1000  # steps, a multiple of log_every; 0: at the end only
    t.keep_checkpoints = 2
    # How often a diverged training restarts from its last checkpoint, each time with a tenth of the
    # learning rate; not in the paper.
    t.restarts = 0
    return t


def _is_class_weight(item):
    if isinstance(item, str):
        return item == "balanced"
    return isinstance(item, int | float) and 0 < item <= MOST_WEIGHT


_TRAIN = {
    "batch_size": at_least(1),
    "ghost_batch_size": at_least(2),  # one image has no batch statistics
    "num_steps": at_least(0),
    "num_epochs": at_least(0),
    "base_lr": at_least(0),
    "optimizer": one_of("sgd", "adam", "adamw", or_of="optimizers"),
    "schedule": one_of("cosine", "warm_restarts", "constant", "step"),
    "warmup_share": SHARE,
    "momentum": SHARE,
    "clip_norm": at_least(0),
    "l2": at_least(0),
    "loss": one_of("cross_entropy", "focal", or_of="losses"),
    "class_weights": Rule("positive numbers, or 'balanced' alone", _is_class_weight),
    "label_smoothing": SHARE,
    "ema": SHARE,
    "augment.crop_padding": at_least(0),
    "augment.cutout": at_least(0),
    "augment.fn": one_of("none", or_of="augmentations"),
    "augment.mixup": at_least(0),
    "log_every": at_least(1),
    "checkpoint_every": at_least(0),
    "keep_checkpoints": at_least(1),
    "restarts": at_least(0),
}


def add_supernet(c: ConfigDict) -> None:
    """Add the section `supernet`: the one-shot model and its training."""
    c.supernet = ConfigDict()
    c.supernet.filters = 16  # F, channels of the first stage; not in the paper (16 or less)
    # How the sum of a block's ops is computed. "masked": all ops; "switch": only ops that are on,
    # one ghost batch or candidate at a time; "dispatch": each op only for the groups that use it;
    # "auto" chooses. With "switch" stand-alone networks, too, take one ghost batch at a time.
    c.supernet.execution = "auto"
    # What gradients compute again, to save memory: "none"; "norms" (and ReLUs: little work); "ops"
    # (all of an op: about a sixth more operations). "switch" does the second in any case.
    c.supernet.remat = "none"
    # The mask sampler: the paper's "path_dropout"; "single_path" (a uniform architecture for each
    # ghost batch), "shared_path" (one for all ghost batches of a step), "fair" (each op equally
    # often), "sandwich" (largest, smallest, uniform); or "strategy": sweep.strategy draws them, and
    # learns from accuracies on validation batches. One of your own is "FILE.py:NAME" or
    # "MODULE:NAME", here as for every such name: docs/howto/recipes.md.
    c.supernet.sampler = "path_dropout"
    # Architectures that all images of a step go through; their gradients are added up, and L2 and a
    # variant's penalty once to the sum, beside which they weigh so many times less.
    # A step then takes so many times as long. 0: each ghost batch has an architecture of its own,
    # and images of its own. FairNAS: "fair" and the number of ops; US-Nets: "sandwich" and 4.
    c.supernet.archs_per_step = 0
    # With "sandwich" and archs_per_step: the largest architecture learns from labels, the others
    # from its predictions on the same images (in-place distillation).
    c.supernet.distillation = False
    # The training variant, see nas_jax/training/variants: "none" is the paper's training; with
    # "smash" a hypernetwork generates weights; with "morphnet" options vanish that are not worth
    # their cost; "pbt" trains a population; "darts" learns real-valued masks by gradient, in place
    # of a sampler's, and selects the first candidate of the sweep. Choosing "smash" also sets the
    # fields that it is trained with, but for those set beside it: nas_jax/config/recipes.py.
    c.supernet.variant = "none"
    c.supernet.variant_options = ()  # (("population", 8), ..), arguments of the variant's `make`
    c.supernet.path_dropout = ConfigDict()
    c.supernet.path_dropout.r = 0.1  # a node loses all its k inputs with probability r: r^(1/k)
    c.supernet.path_dropout.schedule = "linear"  # from 0 over the training; "constant", "none"
    c.supernet.path_dropout.rescale = False  # divide by the keep probability; not in the paper
    # Steps between two turns of "strategy" or "pbt"; 0: an epoch, the batches that the training
    # images fill. A turn is one or more rounds: each evaluates sweep.candidates_per_batch
    # architectures on the next sweep.batch_size validation images.
    c.supernet.strategy_every = 5
    c.supernet.strategy_rounds = 1  # of a turn of "strategy"; 0: as many as there are such batches
    c.supernet.strategy_images = 0  # validation images of the rounds; 0: those of sweep.num_images
    # Whether the gradient of an op is the mean over the ghost batches that use it, not over all: a
    # rarely used op then learns as fast as others. Not in the paper.
    c.supernet.per_use_gradients = False
    # Whether checkpoints of a training on other images may be used with those of config.data.
    c.supernet.other_data = False
    _add_ranking(c)
    c.supernet.train = _train()
    c.supernet.train.num_steps = 10_000  # about 225 epochs


def _add_ranking(c: ConfigDict) -> None:
    """Add sections of the supernet that are to make it rank better; not in the paper."""
    # Few-shot supernets: once trained, the supernet is split by the subsets of these Choices, by
    # name, ("edge0",). Each part goes on with its weights, and evaluates its own architectures.
    c.supernet.split = ConfigDict()
    c.supernet.split.choices = ()
    c.supernet.split.share = 0.25  # steps of a part, as a share of those before
    c.supernet.split.lr = 0.5  # factor on the learning rate, which begins anew
    # Landmark regularisation: of so many architectures of config.table, in its first half, losses
    # are trained to have the order of the accuracies. 0: none; 30 or so.
    c.supernet.landmarks = ConfigDict()
    c.supernet.landmarks.count = 0
    c.supernet.landmarks.weight = 1.0  # of the ranking loss
    c.supernet.landmarks.every = 4  # steps between two that have it, each of which takes three


_SUPERNET = {
    "supernet.filters": at_least(1),
    "supernet.remat": one_of("none", "norms", "ops"),
    "supernet.execution": one_of("auto", "masked", "switch", "dispatch"),
    "supernet.sampler": one_of(
        *("path_dropout", "single_path", "shared_path", "fair", "sandwich", "strategy"),
        or_of="samplers",
    ),
    "supernet.archs_per_step": at_least(0, most=MOST_ARCHS_PER_STEP),
    "supernet.variant": one_of("none", "smash", "morphnet", "pbt", "darts", or_of="variants"),
    "supernet.path_dropout.r": SHARE,
    "supernet.path_dropout.schedule": one_of("linear", "constant", "none"),
    "supernet.strategy_every": at_least(0),
    "supernet.strategy_rounds": at_least(0),
    "supernet.strategy_images": at_least(0),
    "supernet.landmarks.count": Rule("0, or 2 or more", lambda value: value == 0 or value > 1),
    "supernet.landmarks.weight": ABOVE_0,
    "supernet.landmarks.every": at_least(1),
    "supernet.split.choices": items(str),
    "supernet.split.share": Rule("above 0 and at most 10", lambda value: 0 < value <= 10),
    "supernet.split.lr": ABOVE_0,
    **within("supernet.train", _TRAIN),
}


def add_retrain(c: ConfigDict) -> None:
    """Add the section `retrain`: the selection and training of stand-alone networks."""
    c.retrain = ConfigDict()
    # How stand-alone networks are compiled. "each": a program for every architecture, one network
    # after the other. "together": several train at once, in the program of their supernet, each
    # with its masks held fixed. "auto": together on a CPU; on an accelerator for F up to 16
    # (`together.choose`). A run and a study keep what "auto" chose.
    c.retrain.compile = "auto"
    c.retrain.eval_batch_size = 500
    # Architectures, as strings, that retrain.final trains whatever a search found: no trials are
    # needed for them, and they are in no comparison.
    c.retrain.archs = ()
    # Their first weights: "random", or "supernet": those in the run's supernet, a warm start.
    c.retrain.init = "random"
    c.retrain.selection = ConfigDict()
    # "top" is a stratified sample of this number of best candidates. 0: of the best 200th (the
    # paper's 100 of 20,000), or the best groups.top if that is more.
    c.retrain.selection.top_pool = 0
    c.retrain.selection.small_quantile = 0.9  # "small" has values at or above it
    c.retrain.selection.bucket_width = 0.05  # of one-shot accuracy, for "stratified"
    # Widths of the groups "tuned" and "narrowed", networks of equal cost. The networks of the best
    # are trained by retrain.short.train with MorphNet's penalty; see
    # nas_jax/standalone/width_tuning.py. The paper proposes this and does not try it.
    c.retrain.widths = ConfigDict()
    # The cost: multiply-adds; or "params"; or "latency_ms", by sweep.latency.
    c.retrain.widths.resource = "flops"
    # How often a network is trained with the penalty and then widened to its share of the cost.
    c.retrain.widths.rounds = 1
    c.retrain.widths.share = 0.5  # share of the full network's cost
    c.retrain.widths.strength = 0.5  # of the penalty
    c.retrain.widths.threshold = 0.01  # a channel is gone if its batch-norm scales are no larger
    # Paper, figure 5: about 28 epochs, batch 64, ghost batch 32, five runs.
    c.retrain.short = _protocol(filters=(16,), num_seeds=5, random=50, stratified=50)
    c.retrain.short.train.batch_size = 64
    c.retrain.short.train.num_epochs = 28.0
    # Paper, table 1: 300 epochs on all training images.
    c.retrain.final = _protocol(filters=(16, 32, 64), num_seeds=1, random=10, top=10, small=10)
    c.retrain.final.groups.all_on = 1
    c.retrain.final.train.num_epochs = 300.0
    # Options of population based training, (("population", 8), ("tunes", ("base_lr", "l2"))): each
    # final network is the best of a population, which validation images select, see
    # nas_jax/standalone/populations.py. (): each is trained once, on all images.
    c.retrain.final.pbt = ()
    c.retrain.final.pbt_every = 100  # steps between two turns of it


def _protocol(*, filters, num_seeds, random=0, stratified=0, top=0, small=0) -> ConfigDict:
    """Return a protocol's section: how networks are trained, and how many of each group."""
    p = ConfigDict()
    p.filters = filters
    p.num_seeds = num_seeds
    p.groups = ConfigDict()  # how many architectures of each kind
    p.groups.random = random
    p.groups.stratified = stratified
    p.groups.top = top
    p.groups.small = small
    p.groups.pareto = 0  # best for their parameters
    p.groups.tuned = 0  # the best, with tuned widths
    p.groups.narrowed = 0  # the best, all widths scaled alike to the same cost
    p.groups.all_on = 0
    p.train = _train()
    return p


_GROUPS = ("random", "stratified", "top", "small", "pareto", "tuned", "narrowed", "all_on")
_PROTOCOL = {
    "filters": at_least(1, items=int),
    "num_seeds": at_least(0),
    **within("groups", dict.fromkeys(_GROUPS, at_least(0))),
    **within("train", _TRAIN),
}
_RETRAIN = {
    "retrain.compile": one_of("auto", "together", "each"),
    "retrain.eval_batch_size": at_least(1),
    "retrain.archs": Rule(items=str),
    "retrain.init": one_of("random", "supernet"),
    "retrain.selection.top_pool": at_least(0),
    "retrain.selection.small_quantile": SHARE,
    "retrain.selection.bucket_width": PART,
    "retrain.widths.resource": one_of("flops", "params", "latency_ms"),
    "retrain.widths.rounds": at_least(1),
    "retrain.widths.share": PART,
    "retrain.widths.strength": at_least(0),
    "retrain.widths.threshold": at_least(0),
    **within("retrain.short", _PROTOCOL),
    **within("retrain.final", _PROTOCOL),
    "retrain.final.pbt_every": at_least(1),
}

RULES = {**_SUPERNET, **_RETRAIN}
