"""What `qface verify` says, for people and for programs."""

from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from qface_toolkit.environment import Environment
from qface_toolkit.report.figures import NOTHING, clean, fine_cosine
from qface_toolkit.report.terminal import console_table
from qface_toolkit.runtimes import ONNX_RUNTIME, OPENVINO, TORCH
from qface_toolkit.verifier import MEANINGS, FileVerdict, Verification

LONGEST_NAME = 40
_RUNTIMES = (ONNX_RUNTIME, TORCH, OPENVINO)
_STYLES = {"exact": "green", "agrees": "green", "differs": "bold red", "damaged": "bold red"}


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
    headings = ("file", "verdict", "lowest cosine", "to float")
    verdicts = console_table(headings, map(_row, found.files), texts=2, widest=LONGEST_NAME)
    reasons = [Text(f"{clean(file.name, LONGEST_NAME)}: {clean(file.reason)}") for file in found.files if file.reason]
    return Group(verdicts, Text(""), *reasons, *_meanings(found), Text(""), _said(found), Text(_where(environment)))


def _row(file: FileVerdict) -> tuple[str | Text, ...]:
    lowest = NOTHING if file.cosine_min is None else fine_cosine(file.cosine_min, exact=file.verdict == "exact")
    to_float = NOTHING if file.float_cosine_mean is None else fine_cosine(file.float_cosine_mean)
    style = _STYLES.get(file.verdict, "")
    return clean(file.name, LONGEST_NAME), Text(file.verdict, style=style), lowest, to_float


def _meanings(found: Verification) -> list[Text]:
    verdicts = dict.fromkeys(file.verdict for file in found.files if file.ran)
    return [Text(f"{verdict}: {MEANINGS[verdict]}", style="dim") for verdict in verdicts]


def _said(found: Verification) -> Text:
    return Text(found.conclusion, style="" if found.trustworthy else "bold red")


def _where(environment: Environment) -> str:
    versions = ", ".join(
        f"{name} {environment.versions[name]}" for name in map(str, _RUNTIMES) if name in environment.versions
    )
    return f"{versions}; {clean(environment.cpu)}"
