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
    report.results SCORES Score
    report.sections.ranking comparison(score)
    report.sections.schedule LABELS
    report.sections scores
    report.sections.scores distribution(score)
    storage.compatibility mended(score)
    studies.store SCORE Store.score Store.scores_file
    studies.study Study.scores
    training.lineage NOT_TUNED tuned
    training.variants.pbt TUNED
""")

# Public functions whose docstring does not begin with a verb (test_docs).
NO_VERB = _names("""
    report.analysis over_seeds
    report.score_bias merged
    report.sections.networks over_seeds
    search.short_training nearest
    standalone.width_tuning resolve
    storage.checkpoints Checkpoints.restore Checkpoints.resume
    studies.store Store.networks Store.score Store.scores_file Store.search Store.search_folder
    studies.store Store.supernet Store.train_networks Store.tune
    training.layout Replicated.batches Replicated.begin Replicated.compile Replicated.first_state
    training.layout Replicated.hyper Replicated.place Replicated.shape_of
    training.lineage ancestors read schedule tuned
    training.optim l2
    training.population Population.batches Population.begin Population.compile
    training.population Population.first_state Population.hyper Population.is_due Population.place
    training.population Population.shape_of
    training.supernet StrategyTurn.is_due
    training.variants.hypernetwork generate
""")
