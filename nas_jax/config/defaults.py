"""The config: every field with its default, which is the paper's for CIFAR-10, and its rule.

A function adds the fields of a section; their rules stand right below it. The sections `supernet`
and `retrain` are in `trained_networks`.
"""

from pathlib import Path

from ml_collections import ConfigDict

from nas_jax.config import trained_networks
from nas_jax.config.rules import (
    ABOVE_0,
    FREE,
    LONG,
    SHARE,
    Rule,
    at_least,
    at_most,
    items,
    one_of,
    some_of,
)

STAGES = ("supernet", "sweep", "retrain", "report")  # of a search
RUN_MODES = (*STAGES, "search", "study", "check")  # of a config
EXPORT_MODES = ("export", "predict")  # need none
MODES = (*RUN_MODES, *EXPORT_MODES)


def default() -> ConfigDict:
    """Return the paper's settings for CIFAR-10; fields that the paper leaves open say so."""
    c = ConfigDict()
    c.seed = 0  # of all training; the sweep has its own
    # What candidates and stand-alone networks are judged by, one for both, as the report compares
    # them: "accuracy", "balanced_accuracy" (mean over classes) or "macro_f1".
    c.metric = "accuracy"
    # Who is told what happens: "tensorboard", "optuna", "wandb", "mlflow", or functions of an event
    # of your own, "FILE.py:NAME" (docs/howto/events.md). It decides no result, and may change any
    # time.
    c.listeners = ("tensorboard",)
    _add_data(c)
    _add_space(c)
    # A file of published stand-alone accuracies, to compare the candidates' values with: see
    # nas_jax/spaces/tabular.py. It is looked for here and in $NAS_BENCH_DIR.
    c.table = ""
    _add_network(c)
    trained_networks.add_supernet(c)
    _add_sweep(c)
    _add_evaluation(c)
    trained_networks.add_retrain(c)
    _add_study(c)
    return c.lock()


def _add_data(c: ConfigDict) -> None:
    """Add the section `data`: the images and their splits."""
    c.data = ConfigDict()
    # "digits" (embedded), "imagenet2012" or any TFDS classification set; images of your own are
    # "folder:PATH" or "npz:PATH" (docs/howto/data.md).
    c.data.name = "cifar10"
    c.data.data_dir = ""  # the TFDS folder; empty: $TFDS_DATA_DIR, else ~/tensorflow_datasets
    c.data.image_size = 32  # pixels; images are resized to it (0: as they are)
    # TFDS split strings, for sets of TFDS and digits; the three may not overlap. A folder or a file
    # of arrays has its own splits, or data.fractions.
    c.data.train = "train[:45000]"
    c.data.valid = "train[45000:]"  # to evaluate candidates
    c.data.test = "test"  # read once, by final networks
    c.data.image_key = "image"  # of TFDS: the feature that is the image
    c.data.label_key = "label"  # and the one that is the class
    # Of a folder or a file of arrays: what train, valid and test get of each class, where the set
    # itself does not say. Valid ranks candidates, so it is no small part.
    c.data.fractions = (0.6, 0.2, 0.2)
    c.data.split_seed = 0  # of that drawing
    c.data.memory_gb = 4.0  # a folder whose images take more (10^9 bytes) is streamed; 0: always
    # Seed of the order of a split's fixed images, which evaluate candidates and calibrate
    # statistics. The order is random since a set may be stored by class; -1: as it is stored.
    c.data.shuffle_seed = 0
    c.data.digits = ConfigDict()  # for the embedded digits only
    c.data.digits.clutter = 3  # pieces of other digits on an image
    c.data.digits.noise = 0.1  # standard deviation of a pixel, where 1 is white


_DATA = {
    "data.image_size": at_least(0, most=4096),
    "data.fractions": Rule("above 0 and below 1", lambda value: 0 < value < 1, items=float),
    "data.split_seed": at_least(0),
    "data.memory_gb": at_least(0),
    "data.shuffle_seed": FREE,
    "data.digits.clutter": at_least(0, most=100),
    "data.digits.noise": at_least(0),
}


def _add_space(c: ConfigDict) -> None:
    """Add the section `space`: the search space, here the paper's; another has other fields."""
    c.space = ConfigDict()
    c.space.name = "cell"
    c.space.num_cells = 6  # 8 on ImageNet
    c.space.num_blocks = 4  # choice blocks of a cell
    c.space.cells_per_stage = 2  # then the resolution halves and the width doubles
    # The ops of a block; these are the paper's.
    c.space.ops = ("identity", "sep3x3", "sep5x5", "sep7x7", "conv7x7", "maxpool", "avgpool")
    c.space.stem_stride = 1  # not in the paper for ImageNet; 1, 2 or 4
    c.space.tied = True  # all cells have the same architecture; else each its own


# For each space that has the field. The class of the space checks the rest when it is made. A space
# beyond these bounds would take too long to make.
_SPACE = {
    "space.num_cells": at_most(1000),
    "space.num_blocks": at_most(16),
    "space.cells_per_stage": FREE,
    "space.ops": items(str),
    "space.stem_stride": FREE,
}


def _add_network(c: ConfigDict) -> None:
    """Add the section `network`: options that supernets and stand-alone networks share."""
    c.network = ConfigDict()
    c.network.dtype = "auto"  # bfloat16 on accelerators, float32 on CPU; parameters are float32
    c.network.bn_epsilon = 1e-3  # not in the paper
    c.network.relu_before_bn = False  # the paper: BN, ReLU, convolution
    c.network.bn_momentum = 0.9  # of running statistics (stand-alone networks); not in the paper


_NETWORK = {
    "network.dtype": one_of("auto", "float32", "bfloat16", "float16"),
    "network.bn_epsilon": ABOVE_0,
    "network.bn_momentum": SHARE,
}


def _add_sweep(c: ConfigDict) -> None:
    """Add the section `sweep` with the search strategy, and the limits on costs."""
    c.sweep = ConfigDict()
    c.sweep.seed = 0
    c.sweep.strategy = "random_search"  # asks for candidates, see nas_jax/strategies
    c.sweep.options = ()  # of the strategy: (("population", 100), ..), arguments of its `make`
    # Candidates beyond a limit are never evaluated; 0: no limit. Costs are those of the networks
    # with supernet.filters.
    c.sweep.constraints = ConfigDict()
    c.sweep.constraints.max_params = 0
    c.sweep.constraints.max_flops = 0  # multiply-adds for one image
    c.sweep.constraints.max_latency = 0.0  # milliseconds, estimated by sweep.latency
    c.sweep.latency = ConfigDict()
    # Random architectures whose networks are compiled and timed on this machine; 0: no latencies.
    c.sweep.latency.num_archs = 0
    c.sweep.latency.batch_size = 1  # images of a pass
    # Or latencies of another device, that of the target: a CSV file with the columns choice, option
    # and ms, a JSON file (the latency.json of a run is one), or a function "FILE.py:NAME", see
    # nas_jax/costs/latency_table.py.
    c.sweep.latency.table = ""


_SWEEP = {
    "sweep.seed": at_least(0),
    "sweep.constraints.max_params": at_least(0, most=LONG),
    "sweep.constraints.max_flops": at_least(0, most=LONG),
    "sweep.constraints.max_latency": at_least(0),
    "sweep.latency.num_archs": at_least(0),
    "sweep.latency.batch_size": at_least(1),
}


def _add_evaluation(c: ConfigDict) -> None:
    """Add the rest of the section `sweep`: the evaluator, and the number of candidates."""
    # The evaluator. "accuracy": one-shot accuracy; "loss", "train_loss": minus the loss on
    # validation, or on as many training images; "kl": minus the KL divergence from predictions
    # of nearly all paths, without labels; "table": the accuracy that config.table lists; "trained":
    # the accuracy after a short training of the candidate alone, by retrain.short.train, without a
    # supernet (the last train.keep_checkpoints checkpoints stay, to resume and to inherit from);
    # "naswot", "synflow", "zico" and others: of networks with initial weights, see nas_jax/proxies;
    # "params", "flops", "shortest_path" (minus the ops on it): of the architecture alone.
    c.sweep.score = "accuracy"
    c.sweep.inherit = False  # "trained": start from the weights of the nearest earlier candidate
    c.sweep.kl = ConfigDict()
    c.sweep.kl.num_images = 64  # of the training split, one batch
    c.sweep.kl.num_references = 8  # networks to compare with; not in the paper
    c.sweep.kl.r = 1e-8  # r of the path dropout that draws them
    # The networks that a training-free proxy measures, with initial weights. They may be smaller
    # than the supernet, for speed; 0: as it is.
    c.sweep.proxy = ConfigDict()
    c.sweep.proxy.num_images = 64  # of the training split; ZiCo reads them as two batches
    c.sweep.proxy.image_size = 0  # pixels, a divisor of the images' size: they are averaged
    c.sweep.proxy.space = ()  # fields of another depth: (("num_cells", 1), ..)
    c.sweep.proxy.filters = 0
    c.sweep.proxy.num_draws = 1  # of initial weights; scores are means over them
    # "ensemble": the ranks of several evaluators, combined, with weights that are fixed here.
    c.sweep.ensemble = ConfigDict()
    c.sweep.ensemble.members = ()  # evaluators and weights: (("accuracy", 1.0), ("naswot", 1.0))
    # The mean of the ranks, or their "geometric" mean: a bad rank then weighs more than a good one.
    c.sweep.ensemble.combine = "mean"
    c.sweep.ensemble.num_references = 512  # random architectures, among which ranks are taken
    # Statistics of batch norm. "batch": those of the evaluated batch, as in training. The others
    # are gathered over sweep.calibration_images of the training split: "recalibrate" for each
    # candidate; "running" once, over random paths, as running averages of the training would be.
    c.sweep.bn = "batch"
    c.sweep.calibration_images = 2_500
    c.sweep.num_checkpoints = 1  # values are means over this number of the last checkpoints
    # Workdirs of more supernets of the same space and network, such as of other seeds: values of
    # "accuracy" and "kl" are means over all of them.
    c.sweep.supernets = ()
    c.sweep.num_candidates = 20_000
    c.sweep.num_images = 5_000  # of the validation split, the same for all candidates
    c.sweep.batch_size = 500  # images per batch (statistics are per batch); not in the paper
    c.sweep.candidates_per_batch = 16  # evaluated at once, split over devices


_OF_MASKS = ("params", "flops", "shortest_path")
_TRAINING_FREE = (  # nas_jax/proxies
    *("grad_norm", "snip", "synflow", "jacob_cov", "naswot", "zen", "zico"),
    *("expressivity", "progressivity", "trainability"),
)
_EVALUATION = {
    "sweep.score": one_of(
        *("accuracy", "loss", "train_loss", "kl", *_OF_MASKS, "table", "trained"),
        *(*_TRAINING_FREE, "ensemble"),
        or_of="evaluators",
    ),
    "sweep.kl.num_images": at_least(1),
    "sweep.kl.num_references": at_least(1),
    "sweep.ensemble.combine": one_of("mean", "geometric"),
    "sweep.ensemble.num_references": at_least(2),
    "sweep.proxy.num_images": at_least(4),
    "sweep.proxy.image_size": at_least(0),
    "sweep.proxy.filters": at_least(0),
    "sweep.proxy.num_draws": at_least(1),
    "sweep.kl.r": SHARE,
    "sweep.bn": one_of("batch", "recalibrate", "running"),
    "sweep.calibration_images": at_least(1),
    "sweep.num_checkpoints": at_least(1),
    "sweep.supernets": items(str),
    "sweep.num_candidates": at_least(1),
    "sweep.num_images": at_least(1),
    "sweep.batch_size": at_least(1),
    "sweep.candidates_per_batch": at_least(1),
}


def _add_study(c: ConfigDict) -> None:
    """Add the section `study`, for --mode=study: see nas_jax/studies."""
    c.study = ConfigDict()
    c.study.parts = ()  # modules of nas_jax/studies
    c.study.pool = "runs/pool"  # the store of supernets and networks, which studies share
    # Supernets: (name, (field, value), ...); the first is the reference.
    c.study.variants = (("one-shot model",),)
    c.study.num_seeds = 1  # of each variant, where strategies are compared
    c.study.half = "all"  # or "first", "second": of a table's architectures that judge signals
    # Architectures of the other half from whose accuracies surrogates learn to rank; 0: none does.
    c.study.surrogate_archs = 0
    c.study.paper_points = ""  # a CSV file of the paper's points, to be drawn beside ours
    c.study.paper_columns = ()  # its columns with the values of each variant
    c.study.course = 6  # architectures whose divergence is drawn over the training


_STUDY = {
    "study.parts": items(str),
    "study.num_seeds": at_least(0),
    "study.surrogate_archs": Rule("0, or 8 or more", lambda value: value == 0 or value > 7),
    "study.half": one_of("all", "first", "second"),
    "study.paper_columns": items(str),
    "study.course": at_least(1),
}

RULES = {  # by the full name of the field; every number has one
    "seed": at_least(0),
    "metric": one_of("accuracy", "balanced_accuracy", "macro_f1"),
    "listeners": some_of("tensorboard", "optuna", "wandb", "mlflow", or_of="listeners"),
    **_DATA,
    **_SPACE,
    **_NETWORK,
    **trained_networks.RULES,
    **_SWEEP,
    **_EVALUATION,
    **_STUDY,
}


def check_variant(file: str, given: str, variants: tuple[str, ...]) -> None:
    """Check that a config file has the variant of --config=FILE:variant.

    Args:
      file: path of the config file.
      given: the variant.
      variants: those of the file; "" is none.

    Raises: ValueError that names the variants of the file.
    """
    if given not in variants:
        allowed = " or ".join(repr(variant) if variant else "none" for variant in variants)
        raise ValueError(f"--config={Path(file).name}:{given}: the variant is {allowed}")


def retrain_nothing(config: ConfigDict) -> None:
    """Set all groups to 0, so that no stand-alone networks are trained."""
    for protocol in (config.retrain.short, config.retrain.final):
        for group in protocol.groups:
            protocol.groups[group] = 0
