"""The picture of a report's first screen that the README shows, made of the demo model or of any result.

    python benchmarks/screenshot.py docs/report.png
    python benchmarks/screenshot.py docs/report.png --result out

Needs Chromium (apt-get install chromium) and the extra `dev`.
"""

import argparse
import io
import shutil
import tempfile
from pathlib import Path

from PIL import Image

from qface_toolkit.pipeline import plan_job, run_job
from qface_toolkit.report.html import PAGE

WIDTH, HEIGHT = 1280, 800
COLORS = 256
LARGEST_BYTES = 200_000
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def photographed(page: Path) -> bytes:
    """Return the first screen of a page as PNG, with as few colours as it needs."""
    from playwright.sync_api import sync_playwright

    browser_path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser_path is None:
        raise SystemExit("there is no Chromium to look at the page with: apt-get install chromium")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=browser_path, args=FLAGS)
        opened = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        opened.goto(page.resolve().as_uri())
        seen = opened.screenshot()
        browser.close()
    buffer = io.BytesIO()
    picture = Image.open(io.BytesIO(seen)).convert("RGB")
    picture.quantize(COLORS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
        buffer, "PNG", optimize=True
    )
    return buffer.getvalue()


def compressed(folder: Path) -> Path:
    """Return a new result of the demo model, compressed by the default recipe."""
    run_job(plan_job("demo"), folder / "demo-out")
    return folder / "demo-out"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", type=Path, help="the PNG file to write")
    parser.add_argument("--result", type=Path, help="a result's folder, instead of compressing the demo model")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        picture = photographed((given.result or compressed(Path(folder))) / PAGE)
    if len(picture) > LARGEST_BYTES:
        raise SystemExit(f"the picture has {len(picture):,} bytes, and {LARGEST_BYTES:,} are allowed")
    given.picture.parent.mkdir(parents=True, exist_ok=True)
    given.picture.write_bytes(picture)
    print(f"{given.picture}: {len(picture):,} bytes")


if __name__ == "__main__":
    main()
