"""report.html in a real browser: it opens from the disk, asks for nothing, fits every screen, and no name runs."""

import copy
import shutil
import sys

import pytest
from report_values import VALUES, contact_sheet, full, hostile
from test_evaluation import evaluation

from qface_toolkit.report.evaluation import EvaluatedModel, Figure
from qface_toolkit.report.html import to_html
from qface_toolkit.report.schema import Report

pytestmark = pytest.mark.slow

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WIDTHS = (320, 400, 800, 1200, 1600)
PAPER = 718
"""What is left of A4 between its margins, in pixels."""

FAR_TOO_LONG_MS = 10_000
"""A busy machine may be slow; the time itself is printed, and a page that hangs is caught."""

LOW_CONTRAST = """() => {
    const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
    const luminance = (rgb) => rgb.slice(0, 3).map(v => v / 255)
        .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = (node) => {
        for (; node; node = node.parentElement) {
            const found = numbers(getComputedStyle(node).backgroundColor);
            if (found.length === 3 || found[3] === 1) return found;
        }
        return [255, 255, 255];
    };
    const faint = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    let texts = 0;
    while (walker.nextNode()) {
        const node = walker.currentNode.parentElement;
        if (!walker.currentNode.data.trim() || ['title', 'desc'].includes(node.tagName)) continue;
        texts += 1;
        const style = getComputedStyle(node), drawn = node.closest('svg') ? style.fill : style.color;
        const [a, b] = [luminance(numbers(drawn)), luminance(behind(node))].sort((x, y) => y - x);
        if ((a + 0.05) / (b + 0.05) < 4.5) faint.push(node.tagName + ' ' + walker.currentNode.data.slice(0, 40));
    }
    return [texts, faint];
}"""


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.fail("there is no Chromium to look at report.html with: apt-get install -y chromium")
    with sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=path, args=FLAGS)
        yield found
        found.close()


@pytest.fixture(scope="module", params=["plain", "hostile"])
def address(request, tmp_path_factory):
    """Write a page with everything on it, once as it should be and once with hostile text everywhere."""
    values = full(copy.deepcopy(VALUES))
    values = hostile(values) if request.param == "hostile" else values
    lost = {"tar_lost@1e-2": Figure(value=0.01, low=-0.01, high=0.03)}
    model = EvaluatedModel(name=values["artifacts"][1]["name"], sha256="c" * 64, runtime="ort", embedding_size=4)
    judged = evaluation(lost, model=model)
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(to_html(Report.model_validate(values), calibration_png=contact_sheet(), evaluation=judged))
    return path.as_uri()


@pytest.fixture
def visit(browser, address):
    """Return a function that opens the page, and what it asked for and complained of until now."""
    contexts, asked, complaints = [], [], []

    def opened(width=1600, scheme="light"):
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme))
        page = contexts[-1].new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.goto(address)
        return page

    yield opened, asked, complaints
    for context in contexts:
        context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_asks_for_nothing_and_complains_of_nothing(visit, address, scheme):
    opened, asked, complaints = visit
    page = opened(scheme=scheme)
    assert page.evaluate("[document.scripts.length, document.images.length]") == [0, 1]
    assert page.evaluate("document.images[0].complete && document.images[0].naturalWidth") == 512
    assert [url for url in asked if url != address and not url.startswith("data:")] == []
    assert complaints == []
    took = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
    sys.stdout.write(f"report.html was there after {took:.0f} ms ({scheme})\n")
    assert 0 < took < FAR_TOO_LONG_MS


@pytest.mark.parametrize(("width", "media"), [*((width, "screen") for width in WIDTHS), (PAPER, "print")])
def test_nothing_sticks_out(visit, width, media):
    page = visit[0](width)
    page.emulate_media(media=media)
    wide, room = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert room == width
    assert wide <= room, f"{wide} pixels on a screen of {room}, {media}"


LAPTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}
CUT = """[...document.querySelectorAll('.scroll')].filter(box => box.scrollWidth > box.clientWidth + 1)
    .map(box => box.querySelector('caption').textContent)"""


def many_files(name):
    """Return a report with everything on it, and a dozen files more, named like this and numbered."""
    values = full(copy.deepcopy(VALUES))
    more = [copy.deepcopy(values["artifacts"][1]) for _ in range(12)]
    for number, one in enumerate(more):
        one |= {"name": name.format(number), "cost": None, "latency": {**one["latency"], "p50_ms": 1234.5}}
    values["artifacts"] += more
    return Report.model_validate(values)


def opened_at(browser, size, report, folder):
    path = folder / "report.html"
    path.write_text(to_html(report, calibration_png=contact_sheet()))
    page = browser.new_page(viewport=size)
    page.goto(path.as_uri())
    return page


@pytest.mark.parametrize("size", [LAPTOP, PHONE], ids=["laptop", "phone"])
@pytest.mark.parametrize("name", ["int8.{}.onnx", "a_very_long_name_of_a_file_" * 5 + "{}.onnx"], ids=["usual", "long"])
def test_many_files_never_widen_the_page(browser, tmp_path, size, name):
    page = opened_at(browser, size, many_files(name), tmp_path)
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    page.close()


def test_tables_are_seen_whole_on_a_laptop(browser, tmp_path):
    page = opened_at(browser, LAPTOP, many_files("int8.qnnpack.{}.ts"), tmp_path)
    assert page.evaluate("document.querySelectorAll('.scroll').length") > 10
    assert page.evaluate(CUT) == []
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_can_be_read_against_what_is_behind_it(visit, scheme):
    page = visit[0](scheme=scheme)
    texts, faint = page.evaluate(LOW_CONTRAST)
    assert texts > 300
    assert faint == []


def test_light_and_dark_are_what_the_reader_asked_for(visit):
    paper = "getComputedStyle(document.body).backgroundColor"
    ink = "getComputedStyle(document.querySelector('svg.plot text')).fill"
    light, dark = (visit[0](scheme=scheme) for scheme in ("light", "dark"))
    assert light.evaluate(paper) == "rgb(255, 255, 255)"
    assert dark.evaluate(paper) == "rgb(15, 19, 24)"
    assert light.evaluate(ink) != dark.evaluate(ink)
    dark.emulate_media(media="print")
    assert dark.evaluate(paper) == "rgb(255, 255, 255)"


def test_first_screen_holds_the_verdict_and_the_figures(visit):
    page = visit[0]()
    assert page.evaluate("document.querySelectorAll('.card').length") == 4
    ends = "[...document.querySelectorAll('.headline')].map(n => n.getBoundingClientRect().bottom)"
    lowest = max(page.evaluate(ends))
    assert lowest < 900


def test_page_prints_all_rows(visit):
    page = visit[0]()
    page.emulate_media(media="print")
    hidden = "[...document.querySelectorAll('.scroll, pre')].filter(n => n.scrollHeight > n.clientHeight + 4).length"
    assert page.evaluate(hidden) == 0
    assert page.pdf(format="A4").startswith(b"%PDF")
