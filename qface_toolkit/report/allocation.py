"""The widths that weights were given, in words and in tables: for the terminal, report.md and report.html."""

from qface_toolkit.report._allocation import AllocationBlock
from qface_toolkit.report._markup import escape, markdown_table
from qface_toolkit.report._page import Section, Table
from qface_toolkit.report.figures import clean

LONGEST = 1000
TITLE = "Widths of weights"
WIDTH_HEADINGS = ("bits", "layers", "weights", "bytes of codes", "loss, summed")
LAYER_HEADINGS = ("layer", "weights", "bits", "bytes of codes", "loss alone")


def allocation_said(block: AllocationBlock) -> str:
    """Return in a few sentences what was wanted, what was predicted and what came of it."""
    files = [f"{clean(name)} is {size / block.float_bytes:.4f} of float.onnx" for name, size in block.files.items()]
    wanted = (
        f"at most {block.bytes_wanted:g} of float.onnx with the least loss"
        if block.bytes_wanted is not None
        else f"the fewest bytes for a mean cosine of {block.cosine_mean_wanted:g}"
    )
    layers, weights = block.layers, sum(one.weights for one in block.layers)
    average = sum(one.bits * one.weights for one in layers) / weights
    return (
        f"Wanted was {wanted}: {min(one.bits for one in layers)} to {max(one.bits for one in layers)} bits, "
        f"{average:.2f} a weight. {'; '.join(files) + '. ' if files else ''}"
        f"The layers' losses add up to {block.loss_predicted:.4f}, at most {max(block.gap, 0):.2%} above the optimum; "
        f"together the weights lost {block.loss_measured:.4f}, before what later steps gained."
    )


def how_measured(block: AllocationBlock) -> str:
    """Return what the figures were made with."""
    return (
        f"Losses are 1 - cosine to float, {block.losses} on {block.images} calibration images; all weights together "
        f"on {block.held_out} others, where the whole model had a mean cosine of {block.cosine_mean:.5f}."
    )


def width_rows(block: AllocationBlock) -> list[list[str]]:
    """Return one row for each width (see WIDTH_HEADINGS)."""
    rows = []
    for bits in sorted({one.bits for one in block.layers}, reverse=True):
        layers = [one for one in block.layers if one.bits == bits]
        counts = (len(layers), sum(one.weights for one in layers), sum(one.size_bytes for one in layers))
        rows.append([str(bits), *(f"{count:,}" for count in counts), f"{sum(one.loss for one in layers):.5f}"])
    return rows


def layer_rows(block: AllocationBlock) -> list[list[str]]:
    """Return one row for each layer, in the order they run (see LAYER_HEADINGS)."""
    return [
        [clean(one.name, 40), f"{one.weights:,}", str(one.bits), f"{one.size_bytes:,}", f"{one.loss:.5f}"]
        for one in block.layers
    ]


def markdown_section(block: AllocationBlock) -> list[str]:
    """Return the lines of report.md about widths."""
    lines = [f"## {TITLE}", "", escape(allocation_said(block), LONGEST), "", escape(how_measured(block), LONGEST), ""]
    lines += [*markdown_table(WIDTH_HEADINGS, width_rows(block)), ""]
    rows = [[escape(cell) for cell in row] for row in layer_rows(block)]
    return [*lines, *markdown_table(LAYER_HEADINGS, rows)]


def page_section(block: AllocationBlock) -> Section:
    """Return the part of report.html about widths."""
    tables = (
        Table("Weights by width", WIDTH_HEADINGS, width_rows(block)),
        Table("The width of each layer, in the order they run", LAYER_HEADINGS, layer_rows(block)),
    )
    return Section("widths", TITLE, (allocation_said(block), how_measured(block)), tables)
