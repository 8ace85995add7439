"""An evaluation as people read it: the sentence on top says what the figures say, and no name can do harm."""

import json
from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from qface_toolkit.environment import record_environment
from qface_toolkit.errors import ArtifactError
from qface_toolkit.report import read_evaluation, render_evaluation
from qface_toolkit.report.evaluation import (
    EvaluatedData,
    EvaluatedModel,
    Evaluation,
    EveryPairFigures,
    Figure,
    GroupFigures,
    HistogramFigures,
    ModelFigures,
    PairedFigures,
    PairListFigures,
    TemplateFigures,
)
from qface_toolkit.report.evaluation_verdict import evaluation_verdict
from qface_toolkit.report.markdown import evaluation_markdown
from qface_toolkit.report.plots import evaluation_plot
from qface_toolkit.scoring.separation import measure_separation

HOSTILE = "<script>alert(1)</script>[red]|`x`\x1b[31m"


def model(name="int8.onnx"):
    return EvaluatedModel(name=name, sha256="0" * 64, runtime="onnxruntime 1.30", embedding_size=4)


def every_pair(noise=0.15):
    owners = np.repeat(np.arange(5), 4)
    rows = np.random.default_rng(0).normal(size=(5, 4))[owners] + noise * np.random.default_rng(1).normal(size=(20, 4))
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


def said(found):
    """Return the sentences of the verdict, alarms marked."""
    return [one.plain for one in evaluation_verdict(found)]


def printed(found):
    stream = StringIO()
    Console(file=stream, width=80).print(render_evaluation(found))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("figure", "meant"),
    [
        (
            (0.0007, -0.0033, 0.0059),
            "loses 0.07 percentage points of TAR@1e-4, at most 0.59 lost with 95 % confidence, and possibly nothing.",
        ),
        ((0.0, 0.0, 0.0), "no draw of these people shows a difference"),
        ((0.03, 0.01, 0.05), "loses 3.00 percentage points of TAR@1e-4, between 1.00 and 5.00 with 95 % confidence."),
        (
            (-0.03, -0.05, -0.01),
            "gains 3.00 percentage points of TAR@1e-4; with 95 % confidence it is better than the float model here.",
        ),
        ((0.03, None, None), "loses 3.00 percentage points of TAR@1e-4; too few people for a bound."),
    ],
)
def test_the_verdict_says_what_the_interval_says(figure, meant):
    value, low, high = figure
    figures = {"tar_lost@1e-4": Figure(value=value, low=low, high=high), "tar_lost@1e-5": Figure(value=0.9)}
    assert meant in said(evaluation(figures))[0]


def test_a_gain_is_called_a_gain():
    figures = {"tar_lost@1e-4": Figure(value=-0.003, low=-0.01, high=0.02)}
    assert "gains 0.30 percentage points of TAR" in said(evaluation(figures))[0]


def test_without_the_usual_rate_the_lowest_one_counts():
    figures = {f"tar_lost@{far}": Figure(value=lost) for far, lost in (("1e-2", 0.1), ("1e-3", 0.2))}
    assert "20.00 percentage points of TAR@1e-3" in said(evaluation(figures))[0]


def test_a_model_that_tells_nobody_apart_is_not_called_better():
    alike = measure_separation(np.ones((20, 4)), np.repeat(np.arange(5), 4))
    figures = ModelFigures(every_pair=EveryPairFigures.model_validate(alike, from_attributes=True))
    lost = {"tar_lost@1e-2": Figure(value=-0.9, low=-0.95, high=-0.8)}
    found = evaluation(lost).model_copy(update={"figures": figures})
    assert "TAR@1e-2 says nothing" in said(found)[0]
    assert "better" not in printed(found)


def with_float(figures, **changes):
    """Return an evaluation whose loss looks small, beside a float model of these figures."""
    lost = {"tar_lost@1e-2": Figure(value=0.0093, low=-0.001, high=0.02)}
    return evaluation(lost, **changes).model_copy(update={"reference_figures": figures})


def pair_list(right, pairs=600, genuine=300):
    bins = HistogramFigures(edges=(-1.0, 1.0), genuine=(genuine,), impostor=(pairs - genuine,))
    rate = {"pair_accuracy": right, "pair_accuracy_std": 0.0, "tar_bin": {}, "tar_bin_std": {}}
    return ModelFigures(pair_list=PairListFigures(**rate, pairs=pairs, histogram=bins))


def templates(tar, far="1e-1"):
    rates = {"tar_ijb": {"1e-4": 0.0, far: tar}, "fpr": {"1e-4": 1e-4, far: float(far)}}
    return ModelFigures(templates=TemplateFigures(**rates, genuine=1000, impostors=100_000))


def test_a_float_model_that_guesses_is_an_alarm_and_no_loss_is_told():
    found = with_float(ModelFigures(every_pair=every_pair(noise=5)))
    (only,) = said(found)
    assert only.startswith("ALARM: The float model itself does not tell these people apart: ")
    assert "guessing is wrong about 50 %" in only
    assert "proves nothing" in only
    for check in ("mean", "standard deviation", "colour order", "aligned", "framed"):
        assert check in only
    assert "0.93" not in only
    assert "> **Alarm:** The float model itself" in evaluation_markdown(found)
    assert "ALARM: The float model itself" in printed(found).split("Conditions")[1]


@pytest.mark.parametrize(
    ("figures", "how"),
    [
        (pair_list(0.62), "it decides 62.0 % of the pairs correctly, and guessing 50.0 %"),
        (pair_list(0.91, genuine=60), "it decides 91.0 % of the pairs correctly, and guessing 90.0 %"),
        (templates(0.3), "it accepts 30.0 % of the same-person pairs where it lets in 10 % of the others"),
        (templates(0.02, far="1e-3"), "where it lets in 0.1 % of the others, and guessing accepts as many of both"),
    ],
)
def test_every_protocol_has_its_alarm(figures, how):
    assert how in said(with_float(figures))[0]


@pytest.mark.parametrize(
    "figures",
    [
        pair_list(0.8457),
        pair_list(0.99, genuine=60),
        templates(0.9),
        ModelFigures(every_pair=every_pair()),
        ModelFigures(),
    ],
)
def test_a_float_model_that_works_is_no_alarm(figures):
    assert "ALARM" not in " ".join(said(with_float(figures)))


def test_one_embedding_for_everybody_is_an_alarm_where_the_float_model_gives_it():
    alike = measure_separation(np.ones((20, 4)), np.repeat(np.arange(5), 4))
    figures = ModelFigures(every_pair=EveryPairFigures.model_validate(alike, from_attributes=True))
    assert said(with_float(figures))[0].startswith("ALARM: The float model itself")


def test_few_pairs_are_called_few():
    assert (
        "With only 10 same-person pairs this may be chance" in said(with_float(pair_list(0.6, pairs=20, genuine=10)))[0]
    )
    assert "may be chance" not in said(with_float(pair_list(0.6)))[0]


@pytest.mark.parametrize(("right", "alarm"), [(0.6, True), (0.7, False), (0.9, False)])
def test_drawings_are_an_alarm_near_guessing_only(right, alarm):
    drawn = EvaluatedData(kind="drawings", name="drawings-heldout", images=20, people=5, sha256="1" * 64)
    told = " ".join(said(with_float(pair_list(right), data=drawn)))
    assert ("ALARM: The float model itself does not tell these drawn identities apart" in told) is alarm
    assert ("tells these drawn identities apart badly itself" in told) is (right == 0.7)


def test_a_model_alone_has_its_alarm_too():
    told = said(evaluation(figures=None).model_copy(update={"figures": pair_list(0.6)}))
    assert told[0].startswith("ALARM: int8.onnx does not tell these people apart")
    assert "proves nothing" not in told[0]


def test_an_int8_model_that_guesses_beside_a_working_float_one_is_an_alarm():
    lost = {"tar_lost@1e-2": Figure(value=0.9, low=0.8, high=0.95)}
    found = evaluation(lost).model_copy(update={"figures": ModelFigures(every_pair=every_pair(noise=5))})
    assert said(found)[0].startswith("ALARM: On faces (20 images of 5 people), int8.onnx loses 90.00")


def test_rates_before_and_after_are_those_of_the_loss():
    figures = {"tar_lost@1e-3": 0.02, "float_tar@1e-3": 0.9, "tar@1e-3": 0.88}
    told = said(evaluation({name: Figure(value=value) for name, value in figures.items()}))
    assert "of TAR@1e-3 (90.00 % before, 88.00 % now)" in told[0]
    assert told[1].startswith("TAR@1e-3: the share of same-person pairs accepted while 1 in 1,000 pairs of different")


def test_the_worst_group_stands_beside_the_mean():
    groups = {
        name: GroupFigures(images=50, people=12, figures={"tar_lost@1e-2": Figure(value=value, low=low, high=0.2)})
        for name, value, low in (("north", 0.01, -0.01), ("south", 0.12, 0.04))
    }
    groups["few"] = GroupFigures(images=3, people=2, skipped="2 people, and 10 are needed")
    told = said(evaluation({"tar_lost@1e-2": Figure(value=0.03)}, groups=groups))[1]
    assert told.startswith("Of 2 groups of people, south fares worst: it loses 12.00 percentage points of TAR@1e-2")
    assert "between 4.00 and 20.00 with 95 % confidence" in told


@pytest.mark.parametrize(("low", "alarm"), [(1.2, False), (1.3, True)])
def test_the_group_whose_embeddings_change_most_comes_first(low, alarm):
    def figures(ratio, mean, person):
        return {
            "loss_ratio": Figure(value=ratio, low=low if ratio > 1 else 0.8, high=2.0),
            "cosine_mean": Figure(value=mean),
            "cosine_worst_person": Figure(value=person),
        }

    groups = {
        "dark": GroupFigures(images=50, people=12, figures=figures(1.61, 0.995, 0.97)),
        "light": GroupFigures(images=50, people=12, figures=figures(0.9, 0.997, 0.99)),
        "few": GroupFigures(images=3, people=2, skipped="2 people, and 10 are needed"),
    }
    found = evaluation({"tar_lost@1e-2": Figure(value=0.03)}, groups=groups)
    told = next(one for one in said(found) if "dark" in one)
    assert told.startswith("ALARM: ") == alarm
    assert "Of 2 groups of people, dark loses most: 1.61 times the average loss in cosine" in told
    assert "a mean of 0.9950 and 0.9700 for its worst person" in told
    shown = printed(found)
    assert "1.61 (" in shown and max(map(len, shown.splitlines())) <= 80


def test_a_single_group_that_is_harmed_is_an_alarm():
    ratio = {"loss_ratio": Figure(value=3.0, low=2.5, high=3.5), "cosine_mean": Figure(value=0.99)}
    groups = {"north": GroupFigures(images=50, people=12, figures=ratio)}
    told = [one for one in said(evaluation({"tar_lost@1e-2": Figure(value=0.03)}, groups=groups)) if "north" in one]
    assert told[0].startswith("ALARM: The group north loses 3.00 times the average loss in cosine (95 %: 2.50 to 3.50)")


def test_one_group_is_not_called_the_worst_of_one():
    groups = {"north": GroupFigures(images=50, people=12, figures={"tar_lost@1e-2": Figure(value=0.01)})}
    assert said(evaluation({"tar_lost@1e-2": Figure(value=0.03)}, groups=groups))[1].startswith("The group north loses")


def test_tables_of_long_names_fit_eighty_columns_with_all_their_figures():
    figures = {"tar_lost@1e-3": Figure(value=-0.1234, low=-0.2345, high=0.3456), "cosine_mean": Figure(value=0.99)}
    groups = {"a group of people with a long name": GroupFigures(images=1, people=1, figures=figures, gaps=figures)}
    shown = printed(evaluation(figures, groups=groups, model=model("a_model_file_with_a_long_name.onnx")))
    assert max(map(len, shown.splitlines())) <= 80
    assert shown.count("-12.34 (-23.45 to 34.56)") == 2


def test_alone_nothing_is_said_of_losses():
    assert "evaluated alone" in said(evaluation())[0]
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


@pytest.mark.slow
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
