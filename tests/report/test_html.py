"""report.html: one whole file with every figure of the report, that loads nothing and that no name can break out of."""

import copy
import json
import re

import pytest
from report_page import Page
from report_values import HOSTILE, LAYERS, VALUES, contact_sheet, full, hostile
from test_evaluation import evaluation

from qface_toolkit.errors import ArtifactError
from qface_toolkit.report import plots
from qface_toolkit.report.evaluation import EvaluatedModel, Figure
from qface_toolkit.report.html import to_html
from qface_toolkit.report.schema import Report
from qface_toolkit.report.summary import verdict

SHA = "c" * 64
PICTURES = {name: getattr(plots, name) for name in ("stacked", "_beside", "quantizers_picture")}


@pytest.fixture(scope="module", autouse=True)
def drawn_once():
    """Draw each picture once for all pages: drawing is nearly all that a page takes."""
    with pytest.MonkeyPatch.context() as patch:
        for name, draw in PICTURES.items():
            patch.setattr(plots, name, kept(draw))
        yield


def kept(draw):
    """Return a function that gives again what it gave for the same values."""
    made = {}

    def again(*args, **options):
        key = repr((args, options))
        if key not in made:
            made[key] = draw(*args, **options)
        return made[key]

    return again


@pytest.fixture
def whole(values):
    return full(values)


@pytest.fixture(scope="module")
def judged():
    lost = {"tar_lost@1e-2": Figure(value=0.01, low=-0.01, high=0.03), "cosine_mean": Figure(value=0.99)}
    return evaluation(lost, model=EvaluatedModel(name="int8.x86.onnx", sha256=SHA, runtime="ort", embedding_size=4))


@pytest.fixture(scope="module")
def text(judged):
    """Return the page with everything on it; drawing it takes a second."""
    report = Report.model_validate(full(copy.deepcopy(VALUES)))
    return to_html(report, calibration_png=contact_sheet(), evaluation=judged)


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def leaves(values, path=""):
    """Yield every figure and text of plain values, with where it stands."""
    if isinstance(values, dict):
        for key, value in values.items():
            yield from leaves(value, f"{path}.{key}")
    elif isinstance(values, list):
        for place, value in enumerate(values):
            yield from leaves(value, f"{path}.{place}")
    else:
        yield path, values


def test_nothing_is_loaded_and_no_script_runs(page):
    assert page.tags.isdisjoint({"script", "link", "iframe", "object", "embed", "form", "base", "video", "audio"})
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        for name in ("src", "href", "xlink:href", "action", "srcset", "data"):
            assert attributes.get(name, "#").startswith(("#", "data:image/webp;base64,")), (tag, attributes)
        for address in re.findall(r"url\(([^)]*)", attributes.get("style", "") + attributes.get("clip-path", "")):
            assert address.startswith("#"), (tag, attributes)
    [policy] = [meta["content"] for meta in page.of("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")


def test_style_sheet_names_no_address(text):
    [style] = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert "url(" not in style
    assert "@import" not in style
    for media in ("(prefers-color-scheme: dark)", "print"):
        assert f"@media {media}" in style


def test_ids_are_unique_and_every_reference_leads_somewhere(page):
    ids = page.ids()
    assert len(set(ids)) == len(ids) > 100
    for _, attributes in page.elements:
        for name in ("href", "aria-labelledby", "clip-path"):
            for part in attributes.get(name, "").split():
                target = part.removeprefix("url(").removesuffix(")")
                assert target.startswith("data:") or target.removeprefix("#") in ids, (name, part)


def test_page_can_be_found_through_without_eyes(page):
    assert page.of("html") == [{"lang": "en"}]
    assert [len(page.of(tag)) for tag in ("main", "header", "nav", "footer", "h1", "title")][:4] == [1, 1, 1, 1]
    headings = page.headings()
    assert (headings[0], headings.count(1)) == (1, 1)
    assert all(after <= before + 1 for before, after in zip(headings, headings[1:], strict=False))
    assert len(page.of("caption")) == len(page.of("table")) > 10
    assert all(heading.get("scope") in ("col", "row") for heading in page.of("th"))
    plots = page.of("svg")
    assert len(plots) == 6
    assert all(plot["role"] == "img" and plot["aria-labelledby"] for plot in plots)
    assert all(picture["alt"] for picture in page.of("img"))
    assert all(one["tabindex"] == "0" for one in page.of("div") if one.get("class") == "scroll")


def test_first_screen_says_what_a_manager_needs(page, whole, make, judged):
    first = page.text[: page.text.index("Float against compressed")]
    for told in verdict(make(whole), judged):
        assert told.text in first
    for figure in (
        "3.64x smaller",
        "1.25x as fast",
        "beside float.onnx it runs 2.50 times as fast",
        "0.9912",
        "4.00 MB",
        "1.10 MB",
        "10.0 ms",
    ):
        assert figure in first, figure
    assert "only 47 of 50 convolutions run on integers" in first
    assert "calibrated on the set drawings: no real face was used" in first
    assert "licence of the source: MIT" in first
    assert "loses 1.00 points" in first
    assert "of TAR@1e-2 on faces (20 images of 5 people), at most 3.00 lost with 95 % confidence" in first


def test_every_text_of_the_report_is_on_the_page(page, whole):
    # Runtimes and arithmetic are said in words, and members of the ledger in short.
    spared = re.compile(r"\.(runtime|engine|backend|arithmetic|simulation_agreement\.what)$|\.parity\.(members|pairs)")
    missing = [
        (path, text)
        for path, text in leaves(whole)
        if isinstance(text, str) and not spared.search(path) and text not in page.text
    ]
    assert missing == []


@pytest.mark.parametrize(
    "figure",
    [
        *("993,000", "1024 MiB", "12.5", "15.0", "1.0 %", "1.25x", "11.0", "4.40", "60.0 dB", "0.00500", "503 of 2048"),
        *("0.97000", "seed 0", "47 of 50", "1 of 1", "25.0 %", "1100000", "1094.0", "1100.0", "3.0", "1.500", "3.000"),
        *("0.99500", "+0.00350", "0.94000 to 0.96000", "200", "steps.0.iterations = 77", "0.90x", "0.99120", "100.0 %"),
    ],
)
def test_figures_are_on_the_page(page, figure):
    assert figure in page.text


def test_layers_are_listed_in_order_with_all_they_cost(page):
    cells = [data.strip() for tag, data in page.texts if tag in ("th", "td", "span")]
    start = cells.index("operators in the runtime")
    places = [cells.index(name, start) for name in LAYERS]
    assert places == sorted(places)
    row = cells[places[1] : places[2]]
    assert [cell for cell in row if cell] == ["conv_1", "2 QLinearConv", "1.0", "0.500", "-", "-", "0.99500", "0.00500"]


@pytest.mark.slow
def test_same_report_gives_the_same_bytes(whole, make, judged, text, monkeypatch):
    for name, draw in PICTURES.items():
        monkeypatch.setattr(plots, name, draw)
    assert to_html(make(whole), calibration_png=contact_sheet(), evaluation=judged) == text
    assert len(text.encode()) < 1_500_000


@pytest.mark.parametrize("block", ["verification", "parity", "sensitivity", "budget"])
def test_blocks_may_be_missing(whole, make, block):
    whole[block] = None
    assert Page(to_html(make(whole))).headings()[0] == 1


@pytest.mark.parametrize("drawings", [True, False])
def test_accuracy_that_nobody_measured_is_said(values, make, drawings):
    values["verification"] = values["verification"] if drawings else None
    text = Page(to_html(make(values))).text
    assert ("Accuracy not measured on real faces: qface evaluate DIR" in text) is not drawings
    assert "Accuracy on real faces was not measured: qface evaluate DIR" in text


def test_alarms_stand_first_and_no_card_is_green(whole, make, judged):
    whole["artifacts"][1]["times_faster_than_fast"] = 0.8
    page = Page(to_html(make(whole), evaluation=judged))
    assert len([one for one in page.of("p") if one.get("class") == "alarm"]) == 1
    assert [one["class"] for one in page.of("article")] == ["card", "card bad", "card", "card"]
    assert page.text.index(
        "Alarm Ship float.fast.onnx on processors like this one. int8.x86.onnx is slower than"
    ) < page.text.index("takes 1.10 MB")
    assert "1.25x the time slower than float.fast.onnx, the float model" in page.text


def test_reports_of_the_first_version_have_a_page(values, make):
    page = Page(to_html(make(values)))
    assert "Where the bytes are" not in page.text
    assert len(page.of("svg")) == 2


def test_nothing_quantized_is_said(values, make):
    values["artifacts"] = [one for one in values["artifacts"] if not one["quantized"]]
    values["verification"] = None
    assert "Nothing was quantized." in Page(to_html(make(values))).text


@pytest.mark.parametrize("free", [False, None])
def test_pictures_of_faces_are_not_sent_around(whole, make, free):
    whole["calibration"]["contains_no_real_face_data"] = free
    page = Page(to_html(make(whole), calibration_png=contact_sheet()))
    assert page.of("img") == []
    assert "The images are not shown here" in page.text
    assert "no real face was used" not in page.text


def test_damaged_contact_sheet_is_refused(report):
    with pytest.raises(ArtifactError, match="is no picture"):
        to_html(report, calibration_png=contact_sheet()[:200])


def test_evaluation_of_another_file_is_no_figure_of_this_one(report, judged):
    other = judged.model_copy(update={"model": judged.model.model_copy(update={"sha256": "d" * 64})})
    page = Page(to_html(report, evaluation=other))
    assert "the evaluation is of another file: int8.x86.onnx" in page.text
    assert "This evaluation is of a file that this report does not hold." in page.text
    assert "loses 1.00 points" not in page.text


def test_hostile_text_stays_text(whole, make, judged, page):
    named = judged.model.model_copy(update={"name": HOSTILE})
    told = judged.model_copy(update={"model": named, "notes": (HOSTILE,)})
    found = Page(to_html(make(hostile(whole)), calibration_png=contact_sheet(), evaluation=told))
    assert found.tags <= page.tags
    assert [tag for tag, _ in found.elements if tag in ("img", "style", "meta")] == [
        tag for tag, _ in page.elements if tag in ("img", "style", "meta")
    ]
    assert len(set(found.ids())) == len(found.ids())
    text = "".join(data for _, data in found.texts)
    assert "<script>alert(1)</script>" in text
    assert "{{ 7 * 7 }}" in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert not any("alert" in json.dumps(attributes) for tag, attributes in found.elements if tag != "img")
