"""Temporary: what does not follow the rules of names and docstrings yet.

What is mended leaves the list, and this file goes when it is empty.
"""

MODULES_TO_COME = ("training.variants",)  # that docs/glossary.md names already
FIELDS_TO_COME = ("supernet.variant", "supernet.variant_options")  # that the documents name already


def _names(lines):
    """All names of lines such as "module name name"."""
    rows = [line.split() for line in lines.splitlines() if line.strip()]
    return tuple(f"{module}.{name}" for module, *names in rows for name in names)


# Public names with a retired word (test_glossary).
RETIRED_WORDS = _names("""
    costs.latency is_poor(found) quality(found)
    naming check_options(known)
    nn.layers BatchNorm(policy) POLICIES
    nn.network Network.logits_of_each(own)
    oneshot.path_dropout tuned
    runtime.distributed own_devices
    spaces.base Space.labels
    spaces.cell CellSpace.labels
    spaces.nasbench201 NasBench201Space.labels
    spaces.nasbench_macro NasBenchMacroSpace.labels
""")

# Public functions whose docstring does not begin with a verb (test_docs).
NO_VERB = _names("""
    costs.latency is_poor per_option quality
    costs.params_flops extremes image_options least of of_network on_images per_option total
    costs.scaling fit
    costs.widths Widths.cost Widths.marginal Widths.penalty Widths.read_out Widths.scaled
    costs.widths Widths.strengths Widths.without_vanished join split
    data.augment augment standardise standardiser
    data.dataset Data.batches Data.fixed Data.in_order Data.num_images decode
    data.digits make pools
    naming check check_range
    nn.execution resolve scaled weighted_sum
    nn.init init
    nn.kernels.batch_norm moments scale_shift
    nn.kernels.conv conv
    nn.kernels.depthwise depthwise
    nn.kernels.pointwise pointwise pointwise_of_concat
    nn.kernels.pooling avg_pool halve max_pool
    nn.kernels.windows pad strided_bwd
    nn.layers conv he_normal he_scale
    nn.network Network.logits Network.on Network.tensor_widths Network.unit
    nn.skipping weighted_sum
    oneshot.path_dropout ramp rates tuned
    runtime.distributed all_members fetch grid is_lead mean num_global num_local of_members
    runtime.distributed own_devices part process put replica_index shard stop_requested whole
    runtime.environment only_cpu with_cpu_flags
    runtime.preemption on_sigterm requested
    runtime.rng each key named stream
    spaces.base Space.all_on Space.check_image_size Space.contains Space.count Space.crossover
    spaces.base Space.deepened Space.enumerate_decisions Space.from_decisions Space.from_str
    spaces.base Space.from_strs Space.indices Space.isomorph Space.labels Space.layers
    spaces.base Space.multiply_adds Space.mutate Space.neighbours Space.network Space.owner
    spaces.base Space.parse Space.positions Space.reduction_at Space.repeated Space.sample
    spaces.base Space.standalone Space.subnet Space.supernet Space.tensors Space.to_decisions
    spaces.base Space.to_str Space.to_strs Space.usage arch_id identity param_shapes shapes_by_path
    spaces.cell CellSpace.deepened CellSpace.graph CellSpace.labels CellSpace.layers
    spaces.cell CellSpace.network CellSpace.of_cell CellSpace.parse CellSpace.reduction_at
    spaces.cell CellSpace.repeated CellSpace.stage CellSpace.to_str
    spaces.choices all_on contains count crossover enumerate_decisions from_decisions from_indices
    spaces.choices mutate neighbours sample subsets to_decisions to_indices unstack
    spaces defaults make
    spaces.image_size height_and_width
    spaces.nasbench201 NasBench201Space.deepened NasBench201Space.isomorph NasBench201Space.labels
    spaces.nasbench201 NasBench201Space.network NasBench201Space.parse
    spaces.nasbench201 NasBench201Space.reduction_at NasBench201Space.to_str
    spaces.nasbench_macro MacroNetwork.enter MacroNetwork.layer MacroNetwork.leave
    spaces.nasbench_macro MacroNetwork.one_after_the_other NasBenchMacroSpace.labels
    spaces.nasbench_macro NasBenchMacroSpace.layers NasBenchMacroSpace.network
    spaces.nasbench_macro NasBenchMacroSpace.parse NasBenchMacroSpace.reduces
    spaces.nasbench_macro NasBenchMacroSpace.reduction_at NasBenchMacroSpace.stage
    spaces.nasbench_macro NasBenchMacroSpace.to_str
    spaces.tabular Table.check_data Table.search_accuracy digest nats_bench_rows
    storage.schemas Kind.optional Kind.or_null problem
    storage.workdir claim count_lines iterate_jsonl next_free read_trials versions
    strategies.base ask_allowed compiled
    strategies check
    strategies.exhaustive check_count
    strategies.random_search make
""")
