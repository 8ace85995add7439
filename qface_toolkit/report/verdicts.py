"""What `qface verify` says, for people and for programs."""

from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from qface_toolkit.environment import Environment
from qface_toolkit.report.figures import NOTHING, clean, fine_cosine
from qface_toolkit.scoring.verdicts import FileVerdict, Verification

LONGEST_NAME = 40
RUNTIMES = ("onnxruntime", "torch", "openvino")
_STYLES = {"exact": "green", "agrees": "green", "differs": "bold red", "damaged": "bold red"}
_MEANINGS = {
    "exact": "as expected, to the bit",
    "agrees": "as expected, but for how this machine rounds",
    "differs": "not to be trusted here",
}


def verdict_values(found: Verification, environment: Environment) -> dict[str, Any]:
    """Return the verdicts as plain values."""
    files = [asdict(file) for file in found.files]
    return {
        "trustworthy": found.trustworthy,
        "images": found.images,
        "files": files,
        "environment": environment.model_dump(),
    }


def render_verdicts(found: Verification, environment: Environment) -> RenderableType:
    """Return the verdicts for a rich console of 80 columns or more."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("file", max_width=LONGEST_NAME, overflow="fold")
    table.add_column("verdict", no_wrap=True)
    for heading in ("lowest cosine", "to float"):
        table.add_column(heading, justify="right", no_wrap=True)
    for file in found.files:
        style = _STYLES.get(file.verdict, "")
        table.add_row(Text(clean(file.name, LONGEST_NAME)), Text(file.verdict, style=style), *_cells(file))
    reasons = [Text(f"{clean(file.name, LONGEST_NAME)}: {clean(file.reason)}") for file in found.files if file.reason]
    return Group(table, Text(""), *reasons, *_meanings(found), Text(""), _said(found), Text(_where(environment)))


def _cells(file: FileVerdict) -> tuple[str, str]:
    lowest = NOTHING if file.cosine_min is None else fine_cosine(file.cosine_min, exact=file.verdict == "exact")
    return lowest, NOTHING if file.float_cosine_mean is None else fine_cosine(file.float_cosine_mean)


def _meanings(found: Verification) -> list[Text]:
    verdicts = dict.fromkeys(file.verdict for file in found.files if file.ran)
    return [Text(f"{verdict}: {_MEANINGS[verdict]}", style="dim") for verdict in verdicts]


def _said(found: Verification) -> Text:
    ran = [file for file in found.files if file.ran]
    good = [file for file in ran if file.verdict != "differs"]
    if not ran:
        return Text("Nothing of this result runs here.", style="bold red")
    text = f"{len(good)} of {len(found.files)} files can be trusted here, on {found.images} golden images."
    return Text(text, style="" if found.trustworthy else "bold red")


def _where(environment: Environment) -> str:
    versions = ", ".join(f"{name} {environment.versions[name]}" for name in RUNTIMES if name in environment.versions)
    return f"{versions}; {clean(environment.cpu)}"
