"""Supernets trained in different ways, by how well they rank the same architectures.

The paper's figure 4 compares dropout rates; other variants are ablations of its other choices.
"""

from nas_jax.report import analysis, figures, markdown

TITLE = "Supernets compared"
COLUMNS = 4  # panels in a row
TEXT = """Every supernet scores the same architectures; their stand-alone accuracies are the same
for all. Differences of Kendall's tau-b from that of the first are paired: both are taken on the
same architectures, with 95 % intervals of a bootstrap over these. The stratified sample is spread
over the scores of the first supernet, which favours it: the random one compares them fairly."""


def write(study) -> str:
    """List how well each supernet ranks; draw its values, and the differences from the first."""
    values = {
        label: {
            name: study.values(config, [network.arch for network in networks])
            for name, networks in study.samples.items()
        }
        for label, config in study.variants.items()
    }
    _add_scores(study, values)
    rows, gains = [], {}
    for label, of_sample in values.items():
        for name, ours in of_sample.items():
            truth = [network.accuracy for network in study.samples[name]]
            gain = analysis.kendall_gain(ours, values[study.reference][name], truth)
            rows.append(_row(label, name, ours, truth, gain))
            if label != study.reference and gain is not None:
                gains[f"{label}, {name}"] = gain
    rows += _paper_rows(study)
    header = ("supernet", "sample", "n", "Kendall's tau-b", "Spearman's rho")
    header += ("tau-b, difference from the first", "score (%): mean ± sd", "range")
    images = [_panels(study, values)]
    if gains:
        path = study.results.out / "supernets_gains.png"
        figures.intervals(path, gains, f"tau-b, difference from {study.reference}")
        images.append(f"![Differences from {study.reference}]({path.name})")
    return "\n\n".join([*images, TEXT, markdown.table(header, rows)])


def _add_scores(study, values):
    """Give the page the scores by each supernet but the first, whose own the networks have."""
    for label, of_sample in values.items():
        if label != study.reference:
            heading = f"{study.results.ranking_metric.label}, {label}"
            for name, ours in of_sample.items():
                archs = [network.arch for network in study.samples[name]]
                study.scores.setdefault(heading, {}).update(zip(archs, ours))


def _row(label, name, values, truth, gain):
    correlations = analysis.rank_correlations(values, truth)
    spread = analysis.summary(values)
    cells = markdown.coefficients(correlations, 2)
    difference = "" if gain is None or not any(gain) else markdown.interval(gain)
    extent = f"{spread.low:.1f} to {spread.high:.1f}"
    return label, name, correlations.n, *cells, difference, markdown.spread(spread), extent


def _paper_rows(study):
    columns = study.config.study.paper_columns
    if not columns or not (truth := study.paper("standalone_accuracy")):
        return
    for label, column in zip(study.variants, columns):
        values = study.paper(column)
        gain = analysis.kendall_gain(values, study.paper(columns[0]), truth)
        yield _row(f"the paper: {label}", "stratified", values, truth, gain)


def _panels(study, values):
    name = "stratified" if "stratified" in study.samples else "random"
    networks = study.samples[name]
    truth = [network.accuracy for network in networks]
    sds = [analysis.summary(network.accuracies).sd for network in networks]
    points = {
        label: figures.Points(*_complete(of_sample[name], truth, sds))
        for label, of_sample in values.items()
    }
    columns, paper = study.config.study.paper_columns, {}
    if columns and (theirs := study.paper("standalone_accuracy")):
        none = [float("nan")] * len(theirs)
        paper = {
            f"paper: {label}": figures.Points(study.paper(column), theirs, none)
            for label, column in zip(study.variants, columns)
        }
    axes = study.results.ranking_metric.label, "stand-alone accuracy (%)"
    path = study.results.out / "supernets.png"
    figures.panels(path, [*_in_rows(points), *_in_rows(paper)], *axes)
    return f"![Scores by each supernet, {name} sample]({path.name})"


def _complete(x, y, spread):
    return zip(*(row for row in zip(x, y, spread) if row[0] is not None))


def _in_rows(points):
    items = list(points.items())
    return [dict(items[i : i + COLUMNS]) for i in range(0, len(items), COLUMNS)]
