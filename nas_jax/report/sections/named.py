"""The section of a report on the architectures that the config names, `retrain.archs`."""

from nas_jax.report import analysis, markdown
from nas_jax.report.results import RunResults
from nas_jax.report.sections import final_networks
from nas_jax.report.sections.networks import SIZES, axis

TEXT = """The config names these architectures; they are in no group, and no statistic has them.
Mean ± sd over seeds. Where the first weights are those of the supernet, the training had a head
start: such an accuracy is not to be compared with others."""


def write(results: RunResults) -> str:
    """List the accuracies and sizes of the named architectures."""
    rows = [
        (
            f"`{network.arch}`",
            filters,
            init,
            markdown.spread(analysis.summary(network.accuracies)),
            *(markdown.millions(size) for size in (network.params, network.flops)),
        )
        for (filters, init), networks in results.named.items()
        for network in networks
    ]
    header = ("architecture", "F", "first weights", axis("final", results.ranking_metric.judge))
    listed = f"{TEXT}\n\n{markdown.table((*header, *SIZES), rows)}"
    return final_networks.with_populations(listed, results)
