"""report.json: the one truth that every table, page and check is made from, and refused when it is not to be trusted.

Rates lie in 0..1 and units stand in the names. A change of meaning raises SCHEMA_VERSION. Version 2 added optional
blocks, so a report of version 1 is one of version 2 without them.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from qface_toolkit.environment import Environment
from qface_toolkit.errors import ArtifactError
from qface_toolkit.report.agreement import AgreementFigures, CosineHistogram, VerificationBlock, VerificationFigures
from qface_toolkit.report.budget import AllocationBlock, BudgetBlock, LayerWidth, ParetoPoint
from qface_toolkit.report.cost import CostFigures
from qface_toolkit.report.figures import Block, Count, Positive, Rate, Sha256
from qface_toolkit.report.latency import LatencyFigures
from qface_toolkit.report.parity import CodeFigures, LayerFigures, ParityBlock
from qface_toolkit.report.pruning import PruningBlock
from qface_toolkit.report.sensitivity import SensitivityBlock
from qface_toolkit.runtimes import runtime_of

__all__ = [
    "AgreementFigures",
    "AllocationBlock",
    "ArtifactFigures",
    "BudgetBlock",
    "CalibrationUsed",
    "CodeFigures",
    "CosineHistogram",
    "CostFigures",
    "IslandFigures",
    "LatencyFigures",
    "LayerFigures",
    "LayerWidth",
    "ParetoPoint",
    "ParityBlock",
    "RecipeUsed",
    "Report",
    "SensitivityBlock",
    "SourceModel",
    "SpecFacts",
    "StepTime",
    "VerificationBlock",
    "VerificationFigures",
    "read_report",
    "report_bytes",
    "write_report",
]
from qface_toolkit.untrusted.json import json_bytes, read_json
from qface_toolkit.untrusted.writing import write_inside

SCHEMA_VERSION: Literal[2] = 2
MIGRATED_VERSIONS = (1,)
LARGEST_REPORT_BYTES = 16_000_000
MISTAKES_SHOWN = 10


class SpecFacts(Block):
    """The preprocessing and provenance of the model; `mean` and `std` are on the scale 0..255, one number a channel."""

    input_size: tuple[int, int]
    embedding_size: Annotated[int, Field(gt=0)]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    color: Literal["rgb", "bgr", "gray"]
    license: str
    origin: str
    crop: Literal["arcface", "facenet", "dlib", "none"] = "arcface"


class SourceModel(Block):
    """What was compressed; `notes` say what loading it involved, such as a classifier head that was dropped."""

    name: str
    architecture: str
    sha256: Sha256
    spec: SpecFacts
    parameters: Count
    notes: tuple[str, ...] = ()


class RecipeUsed(Block):
    """The recipe's name and all its values, defaults filled in, and the options that a clock decided in their place.

    `chosen` says in sentences what a step chose among several that it tried; trace.json holds them all.
    """

    name: str
    values: dict[str, Any]
    choices: dict[str, int] = {}
    chosen: tuple[str, ...] = ()


class CalibrationUsed(Block):
    """The manifest of the calibration images, and the name of their set."""

    set: str
    kind: str
    parameters: dict[str, Any]
    seed: int
    count: Count
    sha256: Sha256
    contains_no_real_face_data: bool | None
    warnings: tuple[str, ...] = ()


class IslandFigures(Block):
    """Groups of float operators that look alike: `count` groups of these `operators` each, `share` of the time in all.

    The time is that of one image on one thread, and includes the conversions that only these operators need.
    """

    operators: dict[str, Count]
    count: Annotated[int, Field(gt=0)]
    share: Rate | None = None
    reason: str


class ArtifactFigures(Block):
    """One file and what was measured of it.

    `size_ratio` is taken to float.onnx. `times_faster` compares with the float model in the same runtime, and
    `times_faster_than_fast` with the fastest float file for it, float.fast.onnx; where there is no latency,
    `latency_missing` says why; `predicted_ms` is what the table of operator times gives. `operators` counts those of
    the file. `integer_share` is the share of them that does not compute on float numbers, `float_islands` names the
    others that should, and `islands` says what they cost and why.
    `convolutions` and `linear_layers` are those of the file, of which so many run on integers, and so many are kept in
    float by the budget; `placement` says where that was seen. `cost` is there for ONNX files.

    `nominal_bytes` is what papers give, parameters x bits / 8; `payload_bytes` are the tensors inside the file, and
    `compressed_bytes` the file deflated, as a package holds it. `load_ms` and `load_memory_bytes` are those of loading
    it in a process of its own, over that process before; `load_missing` says why they are not there.
    """

    name: str
    backend: str
    runtime: str
    engine: str | None = None
    quantized: bool
    size_bytes: Annotated[int, Field(gt=0)]
    size_ratio: Positive
    sha256: Sha256
    nominal_bytes: Count | None = None
    payload_bytes: Count | None = None
    compressed_bytes: Count | None = None
    weight_bits_mean: Positive | None = None
    load_ms: Positive | None = None
    load_memory_bytes: Count | None = None
    load_missing: str | None = None
    latency: LatencyFigures | None = None
    latency_missing: str | None = None
    predicted_ms: Positive | None = None
    times_faster: Positive | None = None
    times_faster_than_fast: Positive | None = None
    agreement: AgreementFigures | None = None
    simulation_agreement: AgreementFigures | None = None
    operators: dict[str, Count] = Field(default_factory=dict)
    integer_share: Rate | None = None
    float_islands: tuple[str, ...] = ()
    islands: tuple[IslandFigures, ...] = ()
    convolutions: Count | None = None
    integer_convolutions: Count | None = None
    linear_layers: Count | None = None
    integer_linear_layers: Count | None = None
    kept_convolutions: Count = 0
    kept_linear_layers: Count = 0
    placement: str | None = None
    cost: CostFigures | None = None

    @property
    def simulated(self) -> bool:
        """Whether what the file computes is what another runtime would give, so that its speed says nothing."""
        return runtime_of(self.runtime).simulates

    @model_validator(mode="after")
    def _every_byte_is_somewhere(self) -> "ArtifactFigures":
        if self.cost is not None and self.cost.size_bytes != self.size_bytes:
            raise ValueError("the bytes of the layers are not those of the file")
        return self

    @model_validator(mode="after")
    def _latency_or_reason(self) -> "ArtifactFigures":
        if (self.latency is None) == (self.latency_missing is None):
            raise ValueError("either latency or latency_missing must be there")
        return self

    @model_validator(mode="after")
    def _load_or_reason(self) -> "ArtifactFigures":
        told = self.load_ms is not None
        if told != (self.load_memory_bytes is not None) or (told and self.load_missing is not None):
            raise ValueError("load_ms and load_memory_bytes come together, and without load_missing")
        return self

    @model_validator(mode="after")
    def _integer_layers_are_layers(self) -> "ArtifactFigures":
        for integer, kept, layers in (
            (self.integer_convolutions, self.kept_convolutions, self.convolutions),
            (self.integer_linear_layers, self.kept_linear_layers, self.linear_layers),
        ):
            if (integer is None) != (layers is None) or (integer or 0) + kept > (layers or 0):
                raise ValueError("more layers run on integers than there are, or one of the counts is missing")
        return self


class StepTime(Block):
    """The wall time of one part of the job."""

    name: str
    seconds: Annotated[float, Field(ge=0)]


class Report(Block):
    """The whole report. `float_latency` holds the float model's latency by runtime; `commands` reproduce the run."""

    schema_version: Literal[2] = SCHEMA_VERSION
    source: SourceModel
    recipe: RecipeUsed
    seed: int
    environment: Environment
    calibration: CalibrationUsed
    float_latency: dict[str, LatencyFigures]
    artifacts: tuple[ArtifactFigures, ...]
    verification: VerificationBlock | None = None
    parity: ParityBlock | None = None
    sensitivity: SensitivityBlock | None = None
    budget: BudgetBlock | None = None
    allocation: AllocationBlock | None = None
    pruning: PruningBlock | None = None
    steps: tuple[StepTime, ...]
    peak_memory_bytes: Count
    commands: tuple[str, ...]

    @model_validator(mode="after")
    def _names_fit(self) -> "Report":
        names = [artifact.name for artifact in self.artifacts]
        if len(set(names)) < len(names):
            raise ValueError("two artifacts have the same name")
        strangers = set(self.verification.artifacts) - set(names) if self.verification else set()
        if strangers:
            raise ValueError(f"verification names files that are no artifacts: {sorted(strangers)}")
        return self


def report_bytes(report: Report) -> bytes:
    """Return a report as the JSON that `read_report` reads."""
    return json_bytes(report.model_dump(mode="json"))


def write_report(report: Report, path: Path) -> None:
    """Write a report as JSON, whole or not at all."""
    write_inside(path.parent, path.name, report_bytes(report))


def read_report(path: Path) -> Report:
    """Return the report in a file, which somebody may have edited, cut short or made with another version.

    One of an older version is returned as one of this version; what was not measured then is absent.

    Raises:
        ArtifactError: naming the version if it is another one, or each mistake with the path of its key.
    """
    values = read_json(path, LARGEST_REPORT_BYTES)
    version = values.get("schema_version")
    if type(version) is not int or version not in (*MIGRATED_VERSIONS, SCHEMA_VERSION):
        known = " and ".join(map(str, (*MIGRATED_VERSIONS, SCHEMA_VERSION)))
        what = f"this report has schema version {version!r}; versions {known} are known"
        raise ArtifactError(
            what, where=str(path), fix="make it again, or use the version of qface_toolkit that wrote it"
        )
    try:
        # Read as JSON and not as Python values: there, a list would not pass for a tuple under strict rules.
        return Report.model_validate_json(json.dumps(values | {"schema_version": SCHEMA_VERSION}), strict=True)
    except ValidationError as error:
        found = [f"\n  {'.'.join(map(str, one['loc'])) or '(report)'}: {one['msg']}" for one in error.errors()]
        what = f"this is not a whole report; it holds {len(found)} mistake(s):{''.join(found[:MISTAKES_SHOWN])}"
        raise ArtifactError(what, where=str(path), fix="make it again with `qface compress`") from error
