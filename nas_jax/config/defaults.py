"""The config: every field with its default, which is the paper's for CIFAR-10."""

from pathlib import Path

from ml_collections import ConfigDict

STAGES = ("supernet", "sweep", "retrain", "report")  # of a search
MODES = (*STAGES, "search", "study")


def default() -> ConfigDict:
    """The paper's settings for CIFAR-10; fields that the paper leaves open say so."""
    c = ConfigDict()
    c.seed = 0  # of everything that trains; the sweep has its own

    c.data = ConfigDict()
    c.data.name = "cifar10"  # "digits" (embedded), "imagenet2012", or any TFDS classification set
    c.data.data_dir = ""  # the TFDS folder; empty: $TFDS_DATA_DIR, else ~/tensorflow_datasets
    c.data.image_size = 32  # pixels; images are resized to it (0: as they are)
    c.data.train = "train[:45000]"  # TFDS split strings; the three may not overlap
    c.data.valid = "train[45000:]"  # scores candidates
    c.data.test = "test"  # read once, by final networks
    # Of the order in which a split's fixed images are taken (to score, to gather statistics): a
    # random one, since sets may be stored sorted by class; -1: as they are stored.
    c.data.shuffle_seed = 0
    c.data.digits = ConfigDict()  # for the embedded digits only
    c.data.digits.clutter = 3  # pieces of other digits on an image
    c.data.digits.noise = 0.1  # standard deviation of a pixel, where 1 is white

    c.space = ConfigDict()
    c.space.name = "cell"
    c.space.num_cells = 6  # 8 on ImageNet
    c.space.num_blocks = 4  # choice blocks of a cell
    c.space.cells_per_stage = 2  # then the resolution halves and the width doubles
    # The ops of a block; of these the paper has all.
    c.space.ops = ("identity", "sep3x3", "sep5x5", "sep7x7", "conv7x7", "maxpool", "avgpool")
    c.space.stem_stride = 1  # not in the paper for ImageNet; 1, 2 or 4
    c.space.tied = True  # all cells have the same architecture; else each its own

    # A file of published stand-alone accuracies, which judge the scores: see
    # nas_jax/spaces/tabular.py. Looked for here and in $NAS_BENCH_DIR.
    c.table = ""

    c.network = ConfigDict()
    c.network.dtype = "auto"  # bfloat16 on accelerators, float32 on CPU; parameters are float32
    c.network.bn_epsilon = 1e-3  # not in the paper
    c.network.relu_before_bn = False  # the paper: BN, ReLU, convolution
    c.network.bn_momentum = 0.9  # of running statistics (stand-alone networks); not in the paper

    c.supernet = ConfigDict()
    c.supernet.filters = 16  # F, channels of the first stage; not in the paper (16 or less)
    # How the sum of a block's ops is computed: "masked" all of them, "switch" only those on, one
    # ghost batch or candidate at a time, "dispatch" only for the groups that use them; "auto".
    # Stand-alone networks too take one ghost batch at a time with "switch".
    c.supernet.execution = "auto"
    # Which architectures it is trained on: the paper's "path_dropout", or "single_path" (a uniform
    # one per ghost batch), "fair" (each op equally often), "sandwich" (largest, smallest, uniform);
    # or "strategy": what sweep.strategy asks for, which is told scores on validation batches.
    c.supernet.sampler = "path_dropout"
    c.supernet.path_dropout = ConfigDict()
    c.supernet.path_dropout.r = 0.1  # a node loses all its k inputs with probability r: r^(1/k)
    c.supernet.path_dropout.schedule = "linear"  # from 0 over the training; "constant", "none"
    c.supernet.path_dropout.rescale = False  # divide by the keep probability; not in the paper
    # Steps between two rounds of "strategy": of sweep.candidates_per_batch architectures, scored on
    # the next sweep.batch_size of the validation images.
    c.supernet.strategy_every = 5
    # Whether an op's gradient is the mean over the ghost batches that use it, rather than over all:
    # it then learns as fast as what all of them use. Not in the paper.
    c.supernet.per_use_gradients = False
    # Whether a checkpoint that was trained on other images may be used on these of config.data.
    c.supernet.other_data = False
    c.supernet.train = _train()
    c.supernet.train.num_steps = 10_000  # about 225 epochs

    c.sweep = ConfigDict()
    c.sweep.seed = 0
    c.sweep.strategy = "random_search"  # a module of nas_jax/strategies
    c.sweep.options = ()  # of the strategy: (("population", 100), ..), arguments of its `make`
    # What is never scored; 0: no limit. Costs are of the networks with supernet.filters.
    c.sweep.constraints = ConfigDict()
    c.sweep.constraints.max_params = 0
    c.sweep.constraints.max_flops = 0  # multiply-adds for one image
    c.sweep.constraints.max_latency = 0.0  # milliseconds, as sweep.latency estimates them
    c.sweep.latency = ConfigDict()
    # Random architectures whose networks are compiled and timed on this machine; 0: no latencies.
    c.sweep.latency.num_archs = 0
    c.sweep.latency.batch_size = 1  # images of a pass
    # "accuracy" with the supernet's weights; "kl": how far its predictions are from those of nearly
    # all paths, without labels; "table": the accuracy that config.table lists; or "trained": the
    # accuracy after a training of its own, as retrain.short.train says, without a supernet (its
    # checkpoints stay, as many as train.keep_checkpoints, for resumption and for heirs).
    c.sweep.score = "accuracy"
    c.sweep.inherit = False  # "trained" candidates start from the weights of the nearest before
    c.sweep.kl = ConfigDict()
    c.sweep.kl.num_images = 64  # of the training split, one batch
    c.sweep.kl.num_references = 8  # networks to compare with; not in the paper
    c.sweep.kl.r = 1e-8  # of the path dropout that draws them
    # Statistics of batch norm: "batch", of the images that are scored, as in training; else of
    # sweep.calibration_images of the training split: "recalibrate", for each candidate its own;
    # "running", one for all, over random paths, as running averages of the training would be.
    c.sweep.bn = "batch"
    c.sweep.calibration_images = 2_500
    c.sweep.num_checkpoints = 1  # the score is the mean over so many of the last checkpoints
    c.sweep.num_candidates = 20_000
    c.sweep.num_images = 5_000  # of the validation split, the same for all candidates
    c.sweep.batch_size = 500  # images per batch (statistics are per batch); not in the paper
    c.sweep.candidates_per_batch = 16  # scored at once, split over devices

    c.retrain = _retraining()

    c.study = ConfigDict()  # for --mode=study: see nas_jax/studies
    c.study.parts = ()  # modules of nas_jax/studies
    c.study.pool = "runs/pool"  # supernets and stand-alone networks, which studies share
    # Supernets: (label, (field, value), ...); the first is the one that the others differ from.
    c.study.variants = (("one-shot model",),)
    c.study.num_seeds = 1  # of each variant, where strategies are compared
    c.study.paper_points = ""  # a CSV file of the paper's points, to be drawn beside ours
    c.study.paper_columns = ()  # of it, the score by each variant
    c.study.course = 6  # architectures whose divergence is followed over the training
    return c.lock()


def _retraining() -> ConfigDict:
    """Stand-alone networks: which, and how they are trained."""
    r = ConfigDict()
    r.eval_batch_size = 500
    r.selection = ConfigDict()
    # "top" is a stratified sample of the best so many; 0: of the best 200th (the paper's 100 of
    # 20,000), or of as many as groups.top asks for if these are more, which are then the best.
    r.selection.top_pool = 0
    r.selection.small_quantile = 0.9  # "small" has a score at or above it
    r.selection.bucket_width = 0.05  # of one-shot accuracy, for "stratified"
    # Widths of the groups "tuned" and "narrowed": networks of equal cost. The best are trained once
    # more, as retrain.short.train says, with MorphNet's penalty; see
    # nas_jax/standalone/width_tuning.py. The paper proposes it and does not do it.
    r.widths = ConfigDict()
    r.widths.resource = "flops"  # what is to be saved: multiply-adds; or "params"
    r.widths.share = 0.5  # of what the full network costs
    r.widths.strength = 0.5  # of the penalty
    r.widths.threshold = 0.01  # channels whose batch-norm scales are no larger are gone
    # Paper, figure 5: about 28 epochs, batch 64, ghost batch 32, five runs.
    r.short = _protocol(filters=(16,), num_seeds=5, random=50, stratified=50)
    r.short.train.batch_size = 64
    r.short.train.num_epochs = 28.0
    # Paper, table 1: 300 epochs on all training images.
    r.final = _protocol(filters=(16, 32, 64), num_seeds=1, random=10, top=10, small=10)
    r.final.groups.all_on = 1
    r.final.train.num_epochs = 300.0
    return r


def _train() -> ConfigDict:
    """A training section; `num_steps` wins over `num_epochs` if it is not 0."""
    t = ConfigDict()
    t.batch_size = 1024  # images per step over all devices
    t.ghost_batch_size = 32  # images per ghost batch: batch statistics, and one draw of masks
    t.num_steps = 0
    t.num_epochs = 0.0
    t.base_lr = 0.1  # at a batch of 1024; scaled linearly with the batch
    t.schedule = "cosine"  # "constant", "step"; not in the paper
    t.warmup_share = 0.05  # of the steps; not in the paper
    t.momentum = 0.9
    t.nesterov = True
    t.clip_norm = 0.0  # global norm of the gradient, 0: no clipping; not in the paper
    t.l2 = 1e-4  # on what a ghost batch's architecture uses; the coefficient is not in the paper
    t.l2_norm_params = False  # batch norm's scales and offsets too; not in the paper
    t.l2_unused = False  # on what it does not use, too; the paper warns of it
    t.label_smoothing = 0.0  # not in the paper
    t.augment = ConfigDict()  # not in the paper
    t.augment.flip = True
    t.augment.crop_padding = 4  # pixels
    t.augment.cutout = 0  # side in pixels
    t.log_every = 100  # steps
    t.checkpoint_every = 1000  # steps, a multiple of log_every; 0: at the end only
    t.keep_checkpoints = 2
    # How often a training that diverged goes on from its last checkpoint, each time with a tenth of
    # the learning rate; not in the paper.
    t.restarts = 0
    return t


def _protocol(*, filters, num_seeds, random=0, stratified=0, top=0, small=0) -> ConfigDict:
    """How stand-alone networks are trained, and how many of each group."""
    r = ConfigDict()
    r.filters = filters
    r.num_seeds = num_seeds
    r.groups = ConfigDict()  # how many architectures of each kind
    r.groups.random = random
    r.groups.stratified = stratified
    r.groups.top = top
    r.groups.small = small
    r.groups.pareto = 0  # best for their parameters
    r.groups.tuned = 0  # the best, with tuned widths
    r.groups.narrowed = 0  # the best, all widths scaled alike to the same cost
    r.groups.all_on = 0
    r.train = _train()
    return r


def check_variant(file: str, given: str, variants: tuple[str, ...]) -> None:
    """Raises: ValueError if a config file has no such variant, of --config=FILE:variant."""
    if given not in variants:
        allowed = " or ".join(repr(variant) if variant else "none" for variant in variants)
        raise ValueError(f"--config=configs/{Path(file).name}:{given}: the variant is {allowed}")


def retrain_nothing(config: ConfigDict) -> None:
    """Ask for no stand-alone networks."""
    for protocol in (config.retrain.short, config.retrain.final):
        for group in protocol.groups:
            protocol.groups[group] = 0
