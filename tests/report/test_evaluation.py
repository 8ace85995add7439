"""An evaluation as people read it: the sentence on top says what the figures say, and no name can do harm."""

import json
from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from qface_toolkit.environment import record_environment
from qface_toolkit.errors import ArtifactError
from qface_toolkit.measure.separation import measure_separation
from qface_toolkit.report import read_evaluation, render_evaluation
from qface_toolkit.report._evaluation import (
    EvaluatedData,
    EvaluatedModel,
    Evaluation,
    EveryPairFigures,
    Figure,
    GroupFigures,
    ModelFigures,
    PairedFigures,
    TemplateFigures,
)
from qface_toolkit.report._evaluation_verdict import evaluation_verdict
from qface_toolkit.report.evaluation import evaluation_markdown
from qface_toolkit.report.evaluation_plot import evaluation_plot

HOSTILE = "<script>alert(1)</script>[red]|`x`\x1b[31m"


def model(name="int8.onnx"):
    return EvaluatedModel(name=name, sha256="0" * 64, runtime="onnxruntime 1.30", embedding_size=4)


def every_pair():
    owners = np.repeat(np.arange(5), 4)
    rows = np.random.default_rng(0).normal(size=(5, 4))[owners] + np.random.default_rng(1).normal(size=(20, 4)) / 2
    return EveryPairFigures.model_validate(measure_separation(rows, owners), from_attributes=True)


def evaluation(figures=None, **changes):
    values = {
        "model": model(),
        "data": EvaluatedData(kind="people", name="faces", images=20, people=5, sha256="1" * 64),
        "flip": False,
        "figures": ModelFigures(every_pair=every_pair()),
        "environment": record_environment(0, 1),
    }
    if figures is not None:
        values |= {"reference": model("float.onnx"), "reference_figures": values["figures"]}
        values["paired"] = PairedFigures(figures=figures)
    return Evaluation(**values | changes)


def printed(found):
    stream = StringIO()
    Console(file=stream, width=80).print(render_evaluation(found))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("figure", "said"),
    [
        ((0.0007, -0.0033, 0.0059), "no loss can be told from zero; with 95 % confidence it is at most 0.59 points"),
        ((0.0, 0.0, 0.0), "no draw of these people shows a difference"),
        ((0.03, 0.01, 0.05), "a loss, with 95 % confidence between 1.00 and 5.00 points"),
        ((-0.03, -0.05, -0.01), "no loss: with 95 % confidence it is better than the float model here"),
        ((0.03, None, None), "loses 3.00 percentage points of TAR at FAR 1e-4 on faces (20 images of 5 people)."),
    ],
)
def test_the_verdict_says_what_the_interval_says(figure, said):
    value, low, high = figure
    figures = {"tar_lost@1e-4": Figure(value=value, low=low, high=high), "tar_lost@1e-5": Figure(value=0.9)}
    assert said in evaluation_verdict(evaluation(figures))


def test_a_gain_is_called_a_gain():
    figures = {"tar_lost@1e-4": Figure(value=-0.003, low=-0.01, high=0.02)}
    assert "gains 0.30 percentage points of TAR" in evaluation_verdict(evaluation(figures))


def test_without_the_usual_rate_the_lowest_one_counts():
    figures = {f"tar_lost@{far}": Figure(value=lost) for far, lost in (("1e-2", 0.1), ("1e-3", 0.2))}
    assert "20.00 percentage points of TAR at FAR 1e-3" in evaluation_verdict(evaluation(figures))


def test_a_model_that_tells_nobody_apart_is_not_called_better():
    alike = measure_separation(np.ones((20, 4)), np.repeat(np.arange(5), 4))
    figures = ModelFigures(every_pair=EveryPairFigures.model_validate(alike, from_attributes=True))
    lost = {"tar_lost@1e-2": Figure(value=-0.9, low=-0.95, high=-0.8)}
    found = evaluation(lost).model_copy(update={"figures": figures})
    assert "TAR at FAR 1e-2 says nothing" in evaluation_verdict(found)
    assert "better" not in printed(found)


def test_alone_nothing_is_said_of_losses():
    assert "evaluated alone" in evaluation_verdict(evaluation())
    assert "lost" not in printed(evaluation())


def test_groups_without_figures_say_why():
    groups = {
        "few": GroupFigures(images=3, people=2, skipped="2 people, and 10 are needed"),
        "many": GroupFigures(
            images=17,
            people=12,
            figures={"tar_lost@1e-3": Figure(value=0.01, low=-0.01, high=0.02)},
            gaps={"tar_lost@1e-3": Figure(value=0.005, low=-0.01, high=0.01)},
        ),
    }
    shown = printed(evaluation({"tar_lost@1e-3": Figure(value=0.0)}, groups=groups))
    assert "few: no figures, 2 people, and 10 are needed" in shown
    assert "1.00" in shown
    assert "(-1.00 to 2.00)" in shown


def test_a_figure_without_value_is_shown_as_missing():
    shown = printed(evaluation({"tar_lost@1e-3": Figure(value=float("nan"), low=float("nan"), high=float("nan"))}))
    assert "nan" not in shown


def test_hostile_names_stay_text():
    found = evaluation(model=model(HOSTILE))
    page, shown = evaluation_markdown(found), printed(found)
    assert "<script>" not in page
    assert "\x1b" not in shown + page
    assert "[red]" in shown
    assert b"<script>" not in evaluation_plot(found)


def test_the_plot_is_the_same_bytes_twice():
    found = evaluation({"tar_lost@1e-3": Figure(value=0.0)})
    assert evaluation_plot(found) == evaluation_plot(found)


def test_templates_have_no_picture():
    rates = TemplateFigures(tar_ijb={"1e-4": 0.9}, fpr={"1e-4": 1e-4}, genuine=10, impostors=10_000)
    found = evaluation(figures=None).model_copy(update={"figures": ModelFigures(templates=rates)})
    assert evaluation_plot(found) is None
    assert "![" not in evaluation_markdown(found)
    assert "90.00" in printed(found)


def test_what_is_written_is_read(tmp_path):
    found = evaluation({"tar_lost@1e-3": Figure(value=0.5)})
    (tmp_path / "evaluation.json").write_text(found.model_dump_json())
    assert read_evaluation(tmp_path / "evaluation.json") == found


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda values: values | {"schema_version": 2}, "schema version 2"),
        (lambda values: values | {"flip": "yes"}, "flip"),
        (lambda values: {key: one for key, one in values.items() if key != "model"}, "model"),
        (lambda values: values | {"surprise": 1}, "surprise"),
    ],
)
def test_a_damaged_file_is_refused_with_the_place(tmp_path, change, said):
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps(change(json.loads(evaluation().model_dump_json()))))
    with pytest.raises(ArtifactError, match=said):
        read_evaluation(path)
