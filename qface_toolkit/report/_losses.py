"""The part of report.html about what quantization costs: image by image, quantizer by quantizer, tensor by tensor."""

from collections.abc import Iterator

from qface_toolkit.report import plots
from qface_toolkit.report._inline_svg import inline_svg
from qface_toolkit.report._ledger import CodeFigures, LayerFigures, ParityBlock
from qface_toolkit.report._page import Plot, Section, Table
from qface_toolkit.report._sensitivity import SensitivityBlock
from qface_toolkit.report.artifacts import main_artifact
from qface_toolkit.report.figures import NOTHING, clean
from qface_toolkit.report.parity import largest_drops, matrix, parity_said
from qface_toolkit.report.schema import Report
from qface_toolkit.report.sensitivity import HEADINGS, sensitivity_said, worst_quantizers

QUANTIZERS_SHOWN = 20


def losses(report: Report) -> Iterator[Section]:
    """Yield the sections, those that there is something for."""
    yield from _cosines(report)
    if report.sensitivity:
        yield _sensitivity(report.sensitivity)
    if report.parity and report.parity.layers:
        yield _tensors(report.parity.layers)
    if report.parity:
        yield _parity(report.parity)


def _cosines(report: Report) -> Iterator[Section]:
    artifact = main_artifact(report)
    found = artifact.agreement if artifact else None
    if artifact is None or found is None or found.histogram is None:
        return
    what = f"How many of {found.images} images have which cosine, {clean(artifact.name)}"
    rows = [
        [f"{low:.5f} to {high:.5f}", str(count)]
        for low, high, count in zip(
            found.histogram.edges, found.histogram.edges[1:], found.histogram.counts, strict=False
        )
        if count
    ]
    plot = Plot(inline_svg(plots.histogram_picture(found), "plot-histogram", what, "The table has the counts."), what)
    table = Table(f"Images by cosine, {clean(artifact.name)}", ("cosine", "images"), rows)
    said = (f"Between the embeddings of {clean(artifact.name)} and those of the float model: {clean(found.what)}.",)
    yield Section("cosines", "How the cosines are spread", said, (plot, table))


def _sensitivity(block: SensitivityBlock) -> Section:
    what = "What each quantizer loses alone, and what leaving it out gains"
    drawn = inline_svg(plots.sensitivity_picture(block), "plot-sensitivity", what, "The table has the worst ones.")
    rows = worst_quantizers(block, QUANTIZERS_SHOWN)
    caption = f"The worst {len(rows)} of {len(block.quantizers)} quantizers; report.json has them all"
    table = Table(caption, HEADINGS, rows, texts=2)
    return Section("sensitivity", "Where the loss is", (sensitivity_said(block),), (Plot(drawn, what), table))


def _tensors(layers: LayerFigures) -> Section:
    what = f"Cosine of each tensor to float in the {clean(layers.simulation)} simulation"
    drawn = inline_svg(plots.cosine_picture(layers), "plot-cosines", what, "The table has the largest drops.")
    headings, *rows = largest_drops(layers)
    told = f"{clean(layers.simulation)} simulation against the float network, {layers.images} images"
    said = (f"{told}. A drop is what a tensor loses against the worst of those it is made from.",)
    table = Table("Where most is lost, in order of execution", headings, rows)
    return Section("tensors", "Cosine layer by layer", said, (Plot(drawn, what), table))


def _parity(block: ParityBlock) -> Section:
    headings, *rows = matrix(block)
    caption = f"Cosines between embeddings of {block.images} held-out drawings: mean below the diagonal, lowest above"
    codes = [_codes(one) for one in block.codes]
    named = ("file", "first that differs", "tensors", "images", "that differ")
    compared = [Table("Codes inside the files against their simulation", named, codes, texts=2)] if codes else []
    blocks = (Table(caption, ["member", *headings[1:]], rows), *compared)
    return Section("parity", "Who says the same", (parity_said(block),), blocks)


def _codes(one: CodeFigures) -> list[str]:
    if one.not_compared is not None:
        return [clean(one.artifact), f"not compared: {clean(one.not_compared)}", NOTHING, NOTHING, NOTHING]
    first = "none"
    if one.differing:
        found = one.differing[0]
        first = f"{clean(found.tensor)}: {found.differing} of {found.codes} codes, by {found.largest} at most"
    return [clean(one.artifact), first, str(one.tensors), str(one.images), str(len(one.differing))]
