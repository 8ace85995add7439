"""The Pareto block: what it refuses, and what people read of it."""

import pytest
from pydantic import ValidationError
from rich.console import Console

from qface_toolkit.report import inspection_values, read_report, render, to_markdown, write_report
from qface_toolkit.report.budget import budget_said
from qface_toolkit.report.figures import layers_said
from qface_toolkit.report.schema import BudgetBlock
from qface_toolkit.runtimes.fusion import KEPT, Fusion, Layer


def point(layers, mean, milliseconds=1.0):
    size = 1_000_000 + 100_000 * layers
    latency = {"p50_ms": milliseconds, "times_faster": 1 / milliseconds}
    return {"layers": layers, "size_bytes": size, **latency, "cosine_mean": mean, "cosine_min": mean - 0.1}


def block(wanted=0.99, kept=("a", "b", "c"), points=None):
    found = points or [point(0, 0.97), point(1, 0.98, 1.25), point(3, 0.995, 1.5)]
    return {
        "cosine_mean_wanted": wanted,
        "artifact": "int8.x86.onnx",
        "layers": 50,
        "kept": list(kept),
        "images": 256,
        "points": found,
    }


def made(**changes):
    return BudgetBlock.model_validate(block() | changes)


def test_a_report_with_a_budget_is_read_back(values, make, tmp_path):
    report = make(values | {"budget": block()})
    write_report(report, tmp_path / "report.json")
    assert read_report(tmp_path / "report.json") == report


@pytest.mark.parametrize(
    "changes",
    [
        {"points": []},
        {"points": [point(1, 0.9), point(3, 0.99)]},
        {"points": [point(0, 0.9), point(2, 0.99)]},
        {"points": [point(0, 0.9), point(0, 0.9), point(3, 0.99)]},
        {"layers": 2},
        {"cosine_mean_wanted": 1.0},
        {"points": [point(0, 0.9), point(3, 0.99, -1.0)]},
        {"points": [point(0, 0.9), point(3, float("nan"))]},
        {"points": [point(0, 0.9), point(3, 0.99) | {"times_faster": None}]},
    ],
)
def test_a_table_that_cannot_be_is_refused(changes):
    with pytest.raises(ValidationError):
        made(**changes)


def test_a_budget_that_was_met_says_its_price():
    met, said = budget_said(made())
    assert met
    assert "keeps 3 of 50 layers in float for a mean cosine of 0.99500 instead of 0.97000" in said
    assert "1.30 MB instead of 1.00 MB and 1.50 times the 1.00 ms (+0.50 ms)" in said


def test_a_budget_that_was_missed_says_so_first():
    met, said = budget_said(made(cosine_mean_wanted=0.999))
    assert not met
    assert said.startswith("The budget was missed: wanted was a mean cosine of 0.999. ")


def test_a_missed_budget_may_keep_nothing():
    met, said = budget_said(made(kept=[], points=[point(0, 0.97)]))
    assert (met, said.partition(":")[0]) == (False, "The budget was missed")


def test_what_was_not_timed_is_not_priced():
    untimed = {"p50_ms": None, "times_faster": None}
    points = [point(0, 0.97) | untimed, point(3, 0.995) | untimed]
    assert "not timed" in budget_said(made(points=points))[1]


def test_markdown_has_the_table(values, make):
    text = to_markdown(make(values | {"budget": block(kept=("a|b", "<i>", "c"))}))
    assert "## Pareto: cosine against latency and bytes" in text
    assert "| 0 | 1.00 | 1.00 | 1.00x | 0.97000 | 0.87000 |" in text
    assert "| 3 | 1.30 | 1.50 | 0.67x | 0.99500 | 0.89500 |" in text
    assert r"chosen first to last: a\|b, &lt;i&gt;, c." in text


@pytest.mark.parametrize("wanted", [0.99, 0.999])
def test_the_terminal_says_it_too(values, make, wanted):
    console = Console(width=80)
    with console.capture() as captured:
        console.print(render(make(values | {"budget": block(wanted)})))
    assert ("The budget was missed" in captured.get()) == (wanted == 0.999)
    assert "keeps 3 of 50 layers" in " ".join(captured.get().split())


def test_kept_layers_are_no_reason_for_a_warning():
    assert layers_said(4, 3, kept=1) == (True, f"3 of 4 convolutions run on integers, 1 is {KEPT}")
    assert layers_said(4, 2, kept=1)[0] is False
    layers = (Layer("Conv", "a"), Layer("Conv", "b", KEPT), Layer("Conv", "c", "its bias is int8 and not int32"))
    [figures] = inspection_values({"a.onnx": Fusion(False, (), layers, (), ())})["files"]
    assert (figures["convolutions"], figures["integer_convolutions"], figures["kept_convolutions"]) == (3, 1, 1)
