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
    build known_fields
    config.validation config(known)
    costs.latency is_poor(found) quality(found)
    nn.layers BatchNorm(policy) POLICIES
    oneshot.candidates logits(own)
    oneshot.path_dropout tuned
    report.markdown coefficients(found)
    report.results SCORES Score
    report.sections.general final(found) how(found) ranking(found) scores scores(found)
    report.sections.pareto write(found)
    report.sections.schedule LABELS write(found)
    report.sections.trust write(found)
    report.sections.widths table(found) write(found)
    runtime.distributed is_lead of_lead own_devices lead_first
    search.evaluators Scorer
    spaces.base Space.labels
    spaces.cell CellSpace.labels
    spaces.nasbench201 NasBench201Space.labels
    spaces.nasbench_macro NasBenchMacroSpace.labels
    storage.compatibility mended(score)
    strategies TOLD make(told)
    strategies.pbt TUNED
    studies.store Pool Pool.score Pool.scores_file SCORE
    studies.study Study.scores
    training.lineage NOT_TUNED tuned
    training.loop BaseTraining.fit(policy) Task(known) Task(policy) Task(tuned) Task.known
    training.metrics Progress.know(known) Progress.write(known)
    training.supernet first_policy make_strategy(told)
    training.train_step TrainState(policy) create(policy) make(tuned)
""")

# Public functions whose docstring does not begin with a verb (test_docs).
NO_VERB = _names("""
    build build known_fields
    config.defaults check_variant default
    config.variants changed flatten resolve
    costs.constraints Constraints.allows Constraints.costs
    costs.latency is_poor per_option quality
    costs.params_flops extremes image_options least of of_network on_images per_option total
    costs.scaling fit
    costs.widths Widths.cost Widths.marginal Widths.penalty Widths.read_out Widths.scaled
    costs.widths Widths.strengths Widths.without_vanished join split
    data.augment augment standardise standardiser
    data.dataset Data.batches Data.fixed Data.in_order Data.num_images decode
    data.digits make pools
    naming check nearest
    nn.execution resolve scaled weighted_sum
    nn.kernels avg_pool conv depthwise halve max_pool moments pointwise pointwise_of_concat
    nn.kernels scale_shift
    nn.layers conv he_normal he_scale
    nn.masked init
    nn.network Network.logits Network.on Network.tensor_widths Network.unit network_options
    oneshot.candidates logits statistics
    oneshot.path_dropout ramp rates tuned
    oneshot.path_samplers make
    oneshot.scoring accuracy right
    report.analysis evenly kendall kendall_gain mean_difference mean_interval over_seeds
    report.analysis pareto_front rank_correlations summary top_k_regret
    report.figures bands courses curves descent fronts groups growth histogram intervals panels
    report.figures widths
    report.markdown coefficients interval millions spread table
    report.page write
    report.results columns grouped ranked read_result sizes
    report.score_bias biases merged num_tied parts
    report.sections.general final how ranking scores
    report.sections.pareto write
    report.sections.schedule write
    report.sections.trust write
    report.sections.widths table write
    runtime.distributed all_members fetch grid is_lead mean num_global num_local of_members
    runtime.distributed of_lead own_devices lead_first part process put replica_index shard
    runtime.distributed stop_requested whole
    runtime.environment only_cpu with_cpu_flags
    runtime.preemption on_sigterm requested
    runtime.rng each key named stream
    search.evaluators Scorer.rows
    search.short_training nearest
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
    spaces.nasbench_macro NasBenchMacroSpace.labels NasBenchMacroSpace.layers
    spaces.nasbench_macro NasBenchMacroSpace.network NasBenchMacroSpace.parse
    spaces.nasbench_macro NasBenchMacroSpace.reduces NasBenchMacroSpace.reduction_at
    spaces.nasbench_macro NasBenchMacroSpace.stage NasBenchMacroSpace.to_str
    spaces.tabular Table.check_data Table.search_accuracy digest nats_bench_rows
    standalone.retrain is_done jobs keep_or_select select
    standalone.width_tuning resolve
    storage.checkpoints Checkpoints.restore Checkpoints.resume
    storage.schemas Kind.optional Kind.or_null problem
    storage.workdir claim count_lines iterate_jsonl next_free read_trials versions
    strategies.base ask_allowed check_range compiled
    strategies check make
    strategies.enas make objective
    strategies.evolution make
    strategies.exhaustive every make
    strategies.morphnet make
    strategies.optuna_samplers make
    strategies.pbt make
    strategies.random_search make
    strategies.smash generate make
    studies.compare_strategies write
    studies.compare_supernets write
    studies.compare_widths write
    studies.divergence write
    studies.final write
    studies.op_ablation write
    studies.ranking write
    studies.regret write
    studies.store Pool.networks Pool.score Pool.scores_file Pool.search Pool.search_folder
    studies.store Pool.supernet Pool.train_networks Pool.tune
    studies.study Study.groups Study.networks Study.paper Study.scores Study.searches Study.seeded
    studies.study Study.selection
    training.lineage ancestors read schedule tuned
    training.loop BaseTraining.restore BaseTraining.restore_step count_steps
    training.optim l2 schedule sgd
    training.supernet first_policy make make_strategy num_members training training_strategy
    training.train_step create
""")
