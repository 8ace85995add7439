"""model_card.md: front matter that a hub can read whatever the names are, and the figures of the report."""

import yaml

from qface_toolkit.environment import record_environment
from qface_toolkit.report.evaluation import (
    EvaluatedData,
    EvaluatedModel,
    Evaluation,
    Figure,
    HistogramFigures,
    ModelFigures,
    PairedFigures,
    PairListFigures,
)
from qface_toolkit.report.model_card import to_model_card

HOSTILE = "x\n---\nlicense: mit\n<script>alert(1)</script>"


def front(card):
    """Return the front matter, which must end before the first heading."""
    head, _, body = card.removeprefix("---\n").partition("\n---\n\n")
    assert body.startswith("# ")
    return yaml.safe_load(head)


def licensed(values, make, licence):
    values["source"]["spec"]["license"] = licence
    return to_model_card(make(values))


def judged():
    histogram = HistogramFigures(edges=(-1.0, 1.0), genuine=(300,), impostor=(300,))
    listed = PairListFigures(
        pair_accuracy=0.98,
        pair_accuracy_std=0.01,
        tar_bin={"1e-3": 0.9},
        tar_bin_std={"1e-3": 0.02},
        pairs=600,
        histogram=histogram,
    )
    lost = {"pair_accuracy_lost": Figure(value=0.0125, low=-0.005, high=0.0275)}
    return Evaluation(
        model=EvaluatedModel(name="int8.x86.onnx", sha256="0" * 64, runtime="onnxruntime 1.30", embedding_size=4),
        data=EvaluatedData(kind="pairs", name="lfw.bin", images=1200, pairs=600, sha256="1" * 64),
        flip=True,
        figures=ModelFigures(pair_list=listed),
        paired=PairedFigures(figures=lost),
        environment=record_environment(0, 1),
    )


def test_the_hub_finds_what_it_reads(report):
    found = front(to_model_card(report))
    assert found["library_name"] == "onnxruntime"
    assert "face-recognition" in found["tags"]
    (result,) = found["model-index"][0]["results"]
    assert result["metrics"][0] == {"type": "cosine_mean", "name": "cosine_mean", "value": 0.9912}


def test_the_title_tells_narrower_weights(values, make):
    def titled(bits):
        for one in values["artifacts"]:
            one["weight_bits_mean"] = bits
        return next(line for line in to_model_card(make(values)).splitlines() if line.startswith("# "))

    assert titled(8.0).endswith(", int8")
    assert titled(4.99).endswith(", int8 with weights of 5.0 bits")


def test_a_licence_is_carried_over_and_never_made_up(values, make):
    assert front(licensed(values, make, "unknown"))["license"] == "unknown"
    assert front(licensed(values, make, "Apache-2.0"))["license"] == "apache-2.0"
    other = front(licensed(values, make, "my own terms"))
    assert (other["license"], other["license_name"]) == ("other", "my own terms")


def test_a_hostile_licence_stays_text(values, make):
    card = licensed(values, make, HOSTILE)
    assert front(card)["license"] == "other"
    assert "<script>" not in card.partition("\n---\n\n")[2]


def test_a_hostile_name_stays_text(values, make):
    values["source"]["name"] = HOSTILE
    assert "license: mit" not in front(to_model_card(make(values)))
    assert "\n<script>" not in to_model_card(make(values))


def test_every_file_is_named_with_its_hash(report):
    card = to_model_card(report)
    assert all(one.sha256 in card and str(one.size_bytes) in card for one in report.artifacts)


def test_without_faces_it_says_so(report):
    card = to_model_card(report)
    assert "Not measured on faces" in card
    assert "No figure here was taken on faces of real people" in card


def test_alarms_and_the_speed_against_the_fast_form_stand_first(values, make):
    values["artifacts"][1]["times_faster_than_fast"] = 0.8
    failing = judged()
    lists = failing.figures.pair_list.model_copy(update={"pair_accuracy": 0.55})
    sha = {"model": failing.model.model_copy(update={"sha256": values["artifacts"][1]["sha256"]})}
    failing = failing.model_copy(update={"reference_figures": ModelFigures(pair_list=lists), **sha})
    card = to_model_card(make(values), failing).partition("## Intended use")[0]
    first, second = [line for line in card.splitlines() if line.startswith("> **Alarm:**")]
    assert "int8.x86.onnx is slower than float.fast.onnx" in first
    assert "The float model itself does not tell these people apart: it decides 55.0 % of the pairs" in second
    assert "percentage points" not in card


def test_losses_on_faces_have_their_intervals(report):
    card = to_model_card(report, judged())
    assert "(-0.50 to 2.75)" in card
    assert "No figure here" not in card
    names = [result["dataset"]["name"] for result in front(card)["model-index"][0]["results"]]
    assert names[-1] == "lfw.bin"


def test_what_it_was_calibrated_on_is_told(values, make):
    values["calibration"]["contains_no_real_face_data"] = None
    assert "it is unknown whether they show real faces" in to_model_card(make(values))
