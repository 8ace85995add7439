"""The pages of a training: they say what came out and what is odd, show every figure, and no name can do harm."""

import copy
import json
import re
from io import StringIO

import pytest
import yaml
from pydantic import ValidationError
from report_page import Page
from report_values import HOSTILE
from rich.console import Console
from training_values import TRAINING_VALUES, hostile_training, unjudged, unlabelled

from qface_toolkit.errors import ArtifactError
from qface_toolkit.report import (
    Training,
    alarms,
    read_training,
    render_training,
    training_bytes,
    training_card,
    training_html,
    training_markdown,
)
from qface_toolkit.report.figures import duration, training_loss
from qface_toolkit.report.training_plots import held_out_picture, loss_picture, rate_picture
from qface_toolkit.report.training_sections import training_sections
from qface_toolkit.report.training_verdict import training_cards, training_signs, training_verdict

KINDS = {"labelled": lambda values: values, "unlabelled": unlabelled, "unjudged": unjudged, "hostile": hostile_training}
COLORS = {"#000000", "#555555", "#0072b2", "#d55e00"}


def made(change=lambda values: values, **changes):
    return Training.model_validate(change(copy.deepcopy(TRAINING_VALUES)) | changes)


def few_points(values):
    return values | {"points": values["points"][:3], "epochs": values["epochs"][:1], "chosen_epoch": 1}


def told(training):
    return [one.plain for one in training_verdict(training)]


def printed(training):
    stream = StringIO()
    Console(file=stream, width=80).print(render_training(training))
    return stream.getvalue()


@pytest.fixture(scope="module", params=KINDS)
def training(request):
    return made(KINDS[request.param])


@pytest.fixture(scope="module")
def pages():
    """Return the page of each kind of training: drawing takes most of a test's time."""
    return {kind: Page(training_html(made(change))) for kind, change in KINDS.items()}


def test_the_verdict_begins_with_what_came_out():
    assert told(made()) == [
        "pocketnet-s-128 (925,632 parameters) learnt from arcface-r100 and adaface-r50 for 20 epochs: held-out cosine "
        "to the teacher 0.9027, 96.1 % of held-out pairs judged right. The weights of epoch 18 were kept."
    ]


def test_only_what_was_measured_is_said():
    first, second = told(made(unlabelled))
    assert first.endswith("for 20 epochs: held-out cosine to the teacher 0.9161.")
    assert re.search(
        r"The last epoch was the best one \(its cosine is 0\.0\d+ above that of the epoch before\)", second
    )
    text = training_markdown(made(unlabelled))
    assert "EER" not in text and "accuracy" not in text and "TAR" not in text


def test_without_held_out_images_nothing_is_called_good():
    found = made(unjudged)
    assert alarms(found) == ["ALARM: Nothing says how good this is: no images were held out to judge it on."]
    assert "loss 0.1238, and no held-out figure" in told(found)[0]
    assert not any(sign.fine and "judged" in sign.text for sign in training_signs(found))
    assert [card.alarm for card in training_cards(found)] == [False, True, False]


def test_a_loss_that_did_not_fall_is_an_alarm():
    values = copy.deepcopy(TRAINING_VALUES)
    for one in values["epochs"]:
        one["loss"] = 1 + 0.01 * one["epoch"]
    found = Training.model_validate(values)
    assert "ALARM: The loss did not fall: it went from 1.1100 to 1.2000." in alarms(found)[0]
    assert not any("the loss fell" in sign.text for sign in training_signs(found))


def test_a_loss_is_not_compared_with_that_of_fewer_teachers():
    values = copy.deepcopy(TRAINING_VALUES)
    for one in values["epochs"]:
        one["loss"] = (0.1 if one["epoch"] < 11 else 10) / one["epoch"]
    assert alarms(Training.model_validate(values)) == []


@pytest.mark.parametrize(("count", "warned"), [(0, False), (1_200, False), (1_201, True), (500_000, True)])
def test_many_broken_images_are_an_alarm(count, warned):
    found = made(skipped_count=count)
    assert any("could not be read" in text for text in alarms(found)) is warned
    assert any("every image could be read" in sign.text for sign in training_signs(found)) is (count == 0)


@pytest.mark.parametrize(("free", "said"), [(True, "no real face is in"), (False, "real faces"), (None, "user's own")])
def test_real_faces_are_told_of(free, said):
    found = made(lambda values: values | {"data": values["data"] | {"contains_no_real_face_data": free}})
    sign = training_signs(found)[0]
    assert (sign.fine, said in sign.text) == (free is True, True)
    limits = training_card(found).partition("## Known limits")[2]
    assert {True: "No real face was", False: "Real faces were in", None: "It is unknown whether"}[free] in limits


def test_every_figure_of_the_first_screen_is_on_the_page(training, pages, request):
    page = pages[request.node.callspec.params["training"]]
    first = page.text[: page.text.index("Input: float32")]
    shown = [one.text for one in training_verdict(training)] + [one.text for one in training_signs(training)]
    for card in training_cards(training):
        shown += [card.title, card.figure, card.said, card.scale]
        shown += [text for bar in card.bars for text in (bar.label, bar.value)]
    assert [text for text in shown if " ".join(text.split()) not in first] == []


@pytest.mark.parametrize(
    "figure",
    [
        *("925,632", "120,000", "3,000", "4,000", "2 h 13 min", "299.1", "3072 MiB", "2 processes with 1 thread each"),
        *("18 (kept)", "90.27", "0.1355", "401.2", "optimizer.rate 0.1", "steps.0.epochs 20", "p7/3.jpg", "cut short"),
        *("epochs 11 to 20", "b" * 64, "d" * 64, "no better for 2 epochs", "2 (0.0017 %)", "sizes 112, 112", "once"),
        *("mean 127.5 127.5 127.5 and std 128 128 128", "qface compress DIR", "qface evaluate DIR", "torch 2.13.0"),
        *(TRAINING_VALUES["command"], TRAINING_VALUES["notes"][0], "from training.json, which has every figure"),
    ],
)
def test_figures_are_on_the_page(pages, figure):
    assert figure in pages["labelled"].text


def test_the_text_has_what_the_page_has():
    found = made()
    text = training_markdown(found)
    titles = [one.title for one in training_sections(found) if not one.page_only]
    assert [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")] == titles
    assert "| 18 (kept) | 0.1355 | 0.9027 | 96.11 | 90.27 | 85.52 | 76.02 | 3.89 | 401.2 |" in text


def test_the_page_is_sound(pages):
    for kind, page in pages.items():
        ids = page.ids()
        assert len(set(ids)) == len(ids), kind
        for _, attributes in page.elements:
            assert not any(name.startswith("on") for name in attributes)
            for name in ("href", "aria-labelledby", "clip-path"):
                for part in attributes.get(name, "").split():
                    assert part.removeprefix("url(").removesuffix(")").removeprefix("#") in ids, (kind, name, part)
        headings = page.headings()
        assert (headings[0], headings.count(1)) == (1, 1)
        assert page.of("script") == page.of("img") == []
        assert len(page.of("svg")) == (2 if kind == "unjudged" else 3)
        assert "trained" in page.text and "compressed" not in page.text


def test_the_same_training_gives_the_same_page():
    assert training_html(made(few_points)) == training_html(made(few_points))


@pytest.mark.parametrize("draw", [loss_picture, held_out_picture, rate_picture])
@pytest.mark.parametrize("change", [*KINDS.values(), few_points], ids=[*KINDS, "few"])
def test_curves_are_drawn_in_the_colours_of_the_page(draw, change):
    if draw is held_out_picture and change is unjudged:
        return
    picture = draw(made(change)).decode()
    lines = set(
        re.findall(r"fill: none; (?:stroke-dasharray: [^;]+; stroke-dashoffset: \d+; )?stroke: (#\w+)", picture)
    )
    assert lines and lines - {"#b0b0b0"} <= COLORS
    assert "mathdefault" not in picture


def test_many_points_make_no_larger_a_page():
    values = copy.deepcopy(TRAINING_VALUES)
    values["points"] = [
        one | {"step": place + 1, "loss": 1e300, "rate": 1e-300} for place, one in enumerate(values["points"] * 20)
    ]
    assert len(loss_picture(Training.model_validate(values))) < 100_000


def test_no_epoch_and_no_point_have_pages_too():
    found = made(epochs=(), points=(), seconds=0.0, teachers=(), recipe={}, notes=())
    assert "learnt from labels alone for 25,000 steps: no epoch ended" in told(found)[0]
    page = Page(training_html(found))
    assert page.of("svg") == []
    assert "not timed" in page.text and "No epoch came to its end" in page.text
    assert "not timed" in printed(found)
    assert training_card(found) and training_markdown(found)


def test_one_epoch_alone_might_improve():
    assert told(made(few_points))[-1] == "There was one epoch only: it might still have been improving."


def test_hostile_text_stays_text(pages):
    found, page = pages["hostile"], pages["labelled"]
    assert found.tags <= page.tags
    text = "".join(data for _, data in found.texts)
    assert "<script>alert(1)</script>" in text and "{{ 7 * 7 }}" in text
    assert "\x1b" not in text and "\u202e" not in text
    for shown in (training_markdown(made(hostile_training)), training_card(made(hostile_training))):
        body = shown.partition("\n# ")[2].split("command:")[0]
        assert "<script>" not in body and "\x1b" not in shown and "\u202e" not in body
    screen = printed(made(hostile_training))
    assert "\x1b" not in screen and "\u202e" not in screen


def test_the_terminal_is_short_and_fits(training):
    lines = printed(training).splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) < 36
    rows = [line.split()[0] for line in lines if re.match(r"\d+ ", line)]
    assert [row for row in rows if row.isdigit()][:10] == [str(number) for number in range(11, 21)]
    assert lines[0] == "after 10 more epochs"


def test_the_terminal_ends_with_the_warnings():
    text = " ".join(printed(made(unjudged)).split())
    assert text.endswith(alarms(made(unjudged))[0])


def test_the_card_is_what_a_hub_reads():
    card = training_card(made())
    head, _, body = card.removeprefix("---\n").partition("\n---\n\n")
    front = yaml.safe_load(head)
    assert (front["license"], front["library_name"]) == ("unknown", "pytorch")
    (result,) = front["model-index"][0]["results"]
    assert {one["type"]: one["value"] for one in result["metrics"]}["cosine_mean"] == 0.902702
    assert body.startswith("# pocketnet-s-128\n")
    for said in ("112x112 pixels", "std: 128 128 128", "colour: rgb", "qface evaluate DIR", "qface compress DIR"):
        assert said in body, said
    assert "    qface compress DIR --out OUT" in body.splitlines()
    assert "arcface-r100: MIT" in body
    assert "model-index" not in training_card(made(unjudged))


def test_a_hostile_licence_is_no_line_of_the_front_matter():
    found = made(lambda values: values | {"student": values["student"] | {"license": "x\n---\nlicense: mit"}})
    head = training_card(found).removeprefix("---\n").partition("\n---\n\n")[0]
    assert yaml.safe_load(head)["license"] == "other"


def test_reading_back_gives_the_same(training, tmp_path):
    path = tmp_path / "training.json"
    path.write_bytes(training_bytes(training))
    again = read_training(path)
    assert again == training
    assert training_bytes(again) == path.read_bytes()


def changed(keys, value):
    values = copy.deepcopy(TRAINING_VALUES)
    node = values
    for key in keys[:-1]:
        node = node[key]
    node[keys[-1]] = value
    return json.dumps(values)


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{", "{}", '{"version": 1}', '{"version": 2}', '{"version": true}', "[" * 100_000),
        changed(["version"], 2),
        changed(["student", "sha256"], "A" * 64),
        changed(["teachers", 0, "sha256"], "b" * 63),
        changed(["student", "color"], HOSTILE),
        changed(["student", "mean"], [0.0]),
        changed(["student", "std"], [0.0, 1.0, 1.0]),
        changed(["student", "parameters"], 10**30),
        changed(["data", "examples"], 0),
        changed(["epochs", 0, "loss"], float("nan")),
        changed(["epochs", 0, "pair_accuracy"], 1.5),
        changed(["epochs", 0, "tar"], {HOSTILE: 0.5}),
        changed(["epochs", 1, "epoch"], 1),
        changed(["points", 0, "parts"], {"a": float("inf")}),
        changed(["seconds"], -1.0),
        changed(["chosen_epoch"], 21),
        changed(["surprise"], 1),
        changed(["recipe"], "RECIPE").replace('"RECIPE"', '{"a": ' * 900 + "1" + "}" * 900),
    ],
)
def test_what_is_no_training_is_refused_in_words(text, tmp_path):
    path = tmp_path / "training.json"
    path.write_text(text)
    with pytest.raises(ArtifactError) as refused:
        read_training(path)
    assert str(path) in str(refused.value)
    assert len(str(refused.value)) < 10_000


def test_a_missing_file_is_refused_in_words(tmp_path):
    with pytest.raises(ArtifactError):
        read_training(tmp_path / "training.json")


def test_figures_that_are_no_numbers_make_no_training():
    with pytest.raises(ValidationError):
        made(seconds=float("inf"))


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.0, "0.0 s"), (59.96, "1 min 0 s"), (125, "2 min 5 s"), (7325, "2 h 2 min"), (1e300, "1e+300 s")],
)
def test_times_are_said_in_their_largest_units(seconds, said):
    assert duration(seconds) == said


@pytest.mark.parametrize(("value", "said"), [(0, "0.0000"), (0.25, "0.2500"), (1e-5, "1e-05"), (-12345.6, "-1.23e+04")])
def test_losses_of_any_size_are_short(value, said):
    assert training_loss(value) == said
