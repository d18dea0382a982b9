"""The final networks: top, small, random and all-on, at several widths (paper, table 1)."""

from nas_jax.report import analysis, markdown
from nas_jax.report.sections import final_networks

TITLE = "Final networks"
PAPER = {  # F -> group -> test accuracy (%), its sd, parameters (M); table 1
    16: {"top": (94.6, 0.2, 0.7), "small": (94.6, 0.2, 0.4), "random": (94.1, 0.5, 0.5)},
    32: {"top": (95.5, 0.1, 2.7), "small": (95.6, 0.2, 1.3), "random": (95.0, 0.5, 1.7)},
    64: {"top": (95.9, 0.2, 10.4), "small": (96.0, 0.1, 5.0), "random": (95.6, 0.2, 6.7)},
    128: {"top": (96.1, 0.2, 41.3), "small": (96.1, 0.2, 19.3), "random": (95.8, 0.2, 26.4)},
}
PAPER_ALL_ON = {16: (95.0, 1.3), 32: (95.6, 4.8), 64: (96.0, 18.5), 128: (96.2, 72.7)}
AGAINST = """Difference of the means (percentage points), with the 95 % interval of Welch's t-test
over architectures (none of one architecture, nor where those of both groups are equal):"""


def write(study) -> str:
    """List the groups, their differences from random networks, and the paper's numbers."""
    networks = study.groups("final")
    rows = [
        (filters, group, *_against(networks[filters, group], networks[filters, "random"]))
        for filters, group in networks
        if group in ("top", "small") and (filters, "random") in networks
    ]
    header = ("F", "group", "n", "n random", "difference from random")
    against = markdown.table(header, rows)
    return "\n\n".join([final_networks.table(networks), AGAINST, against, _paper()])


def _against(group, random):
    ours, theirs = ([network.accuracy for network in networks] for networks in (group, random))
    difference = analysis.mean_difference(ours, theirs)
    return len(ours), len(theirs), markdown.interval(difference)


def _paper():
    rows = [
        (filters, name, f"{accuracy} ± {sd}", params)
        for filters, groups in PAPER.items()
        for name, (accuracy, sd, params) in groups.items()
    ]
    rows += [(filters, "all-on", *map(str, cells)) for filters, cells in PAPER_ALL_ON.items()]
    rows.sort(key=lambda row: row[0])
    table = markdown.table(("F", "group", "test accuracy (%)", "parameters (M)"), rows)
    return f"The paper's, of ten architectures each (all-on: one), 300 epochs:\n\n{table}"
