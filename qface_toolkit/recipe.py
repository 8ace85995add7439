"""A recipe: what is done to a model, in one small YAML file that is checked as a whole before anything heavy is read.

Whoever got five things wrong learns of all five at once, each with the path of its key. The options of a step belong
to its method: their schema is handed in, so that this file knows no method. `untrusted.yaml` reads the text, and
`untrusted.settings` applies what `--set` says.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationError,
    field_validator,
)

from qface_toolkit.errors import RecipeError
from qface_toolkit.registry import unknown_name
from qface_toolkit.untrusted.settings import apply_setting, closest, mistakes_error, shown, worded
from qface_toolkit.untrusted.yaml import as_written, read_text, read_yaml

PACKAGE = Path(__file__).resolve().parent
OLDEST_ONNXRUNTIME = (1, 18)

Schemas = Mapping[str, type[BaseModel]]
"""The options schema of each method, by the method's name."""


class _Block(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class Calibration(_Block):
    """Which images set the ranges: a named set or a YAML file, how many, and how many at a time."""

    set: str = "drawings"
    count: StrictInt = Field(default=512, ge=1)
    batch_size: StrictInt = Field(default=32, ge=1)


WeightBits = Annotated[StrictInt, Field(ge=2, le=8)]
ActivationBits = Annotated[StrictInt, Field(ge=4, le=8)]


class WeightScheme(_Block):
    """How weights are quantized: 2 to 8 bits, one symmetric scale for each output channel.

    `depthwise` is the width of depthwise kernels, where it is another: they are few numbers, and lose most.
    """

    bits: WeightBits = 8
    depthwise: WeightBits | None = None
    symmetric: Literal[True] = True
    per: Literal["channel"] = "channel"


class ActivationScheme(_Block):
    """How activations are quantized: 4 to 8 bits, one range for each tensor. Only simulations have fewer than 8."""

    bits: ActivationBits = 8
    symmetric: Literal[False] = False
    per: Literal["tensor"] = "tensor"


class LayerScheme(_Block):
    """Widths of their own for layers and tensors whose names (`qface inspect` has them) match a wildcard."""

    match: Annotated[StrictStr, Field(min_length=1)]
    weights: WeightBits | None = None
    activations: ActivationBits | None = None


class Scheme(_Block):
    """How weights and activations are quantized, and which layers differ: the first entry that matches counts."""

    weights: WeightScheme = WeightScheme()
    activations: ActivationScheme = ActivationScheme()
    layers: tuple[LayerScheme, ...] = ()


class Target(_Block):
    """The machine that will run the result, and how PReLU is written for it.

    `vnni`: its CPU has 8-bit dot products. `onnxruntime`: the oldest release there. `prelu`: one ONNX form for all of
    them, or the better one layer by layer. `lowering`: where the times come from that decide which is better.
    """

    vnni: StrictBool = True
    onnxruntime: Annotated[str, BeforeValidator(as_written), Field(pattern=r"^\d+\.\d+(\.\d+)?$")] = "1.24"
    prelu: Literal["auto", "twin", "scaled"] = "auto"
    lowering: StrictStr = "table"

    @field_validator("onnxruntime")
    @classmethod
    def _tried(cls, release: str) -> str:
        if tuple(map(int, release.split(".")[:2])) < OLDEST_ONNXRUNTIME:
            raise ValueError(f"nothing older than {'.'.join(map(str, OLDEST_ONNXRUNTIME))} was tried")
        return release

    @field_validator("lowering")
    @classmethod
    def _source_of_times(cls, lowering: str) -> str:
        if lowering not in ("table", "measure") and not lowering.endswith(".json"):
            raise ValueError("should be table, measure or a .json file of measured times")
        return lowering


class Export(_Block):
    """What the ONNX files take: preprocessed float images, or the pixels as they are."""

    input: Literal["float", "uint8"] = "float"


class Budget(_Block):
    """What a run must reach: a closeness of the embedding to the float model's, a size of the packed file, a speed.

    `macs`, `ms_share`: the share that is left of the multiplications, or of the milliseconds that the table of operator
    times gives for the first file; channels go until it is reached.
    `cosine_mean`: keep the fewest layers in float that reach it; where widths are allocated, the fewest bytes. `bytes`:
    the share of float.onnx that the packed file may take; widths are allocated for the least loss. `times_faster`: how
    many times as fast as float.fast.onnx the first file must be, measured; it steers nothing. `floor_cosine`: the mean
    cosine below which a file is damaged; a first file that is gets mended where it can be, and damage is an error.
    """

    cosine_mean: Annotated[float, Field(strict=True, gt=0, lt=1)] | None = None
    bytes: Annotated[float, Field(strict=True, gt=0, lt=1)] | None = None
    times_faster: Annotated[float, Field(strict=True, gt=0, le=100)] | None = None
    floor_cosine: Annotated[float, Field(strict=True, gt=0, lt=1)] | None = None
    macs: Annotated[float, Field(strict=True, gt=0, lt=1)] | None = None
    ms_share: Annotated[float, Field(strict=True, gt=0, lt=1)] | None = None


class Step(_Block):
    """One step: a method and its options, already checked by the method's own schema."""

    method: str
    options: SerializeAsAny[BaseModel]


class Recipe(_Block):
    """A whole recipe. `model` holds facts of the model to override (see `ModelSpec`)."""

    version: Literal[1]
    calibration: Calibration = Calibration()
    scheme: Scheme = Scheme()
    steps: tuple[Step, ...]
    target: Target = Target()
    export: Export = Export()
    budget: Budget = Budget()
    backends: tuple[str, ...] = Field(default=("onnx-x86", "onnx-arm", "torch-x86", "torch-qnnpack"), min_length=1)
    model: dict[str, Any] = Field(default_factory=dict)

    def as_plain(self, full: bool = True) -> dict[str, Any]:
        """Return plain values that JSON can hold and `read_recipe` takes; without `full`, only what was written."""
        values = self.model_dump(mode="json", exclude={"steps"}, exclude_unset=not full)
        dumped = [step.options.model_dump(mode="json", exclude_unset=not full) for step in self.steps]
        values["steps"] = [{step.method: options} for step, options in zip(self.steps, dumped, strict=True)]
        return {key: values[key] for key in type(self).model_fields if key in values}


def list_recipes() -> dict[str, str]:
    """Return the names of the recipes that come with the package, each with the first line of its header comment."""
    return headers(recipe_folder())


def find_recipe(name_or_path: str) -> Path:
    """Return the file of the recipe of this name, or the user's own; see `named_file`."""
    return named_file("recipe", name_or_path, recipe_folder())


def headers(folder: Path) -> dict[str, str]:
    """Return the names of a folder's YAML files, each with the first line of its header comment."""
    files = sorted(folder.glob("*.yaml"))
    return {file.stem: read_text(file).partition("\n")[0].lstrip("# ").rstrip() for file in files}


def named_file(kind: str, name_or_path: str, folder: Path) -> Path:
    """Return the YAML file of this name in a folder, or the user's own file if it is a path that ends in .yaml.

    Raises:
        UnknownName: naming the closest one of this kind.
    """
    path = Path(name_or_path)
    if path.suffix in {".yaml", ".yml"}:
        return path
    names = tuple(file.stem for file in folder.glob("*.yaml"))
    if name_or_path not in names:
        raise unknown_name(kind, name_or_path, names)
    return folder / f"{name_or_path}.yaml"


def read_file_of(path: Path) -> tuple[str, dict[str, Any]]:
    """Return the text of a recipe's file and the plain values that it holds, which are not checked yet.

    Raises:
        RecipeError: if it cannot be read or is no mapping.
    """
    text = read_text(path, "recipe file", "run `qface list recipes` for names")
    values = read_yaml(text, where=str(path))
    if not isinstance(values, dict):
        fix = "start from a copy of one of the package's: qface list recipes, qface list trainings"
        raise RecipeError("a recipe is a mapping of keys to values", where=str(path), fix=fix)
    return text, values


def recipe_folder() -> Path:
    """Return the folder that the package's recipes stand in."""
    inside = PACKAGE / "recipes"
    return inside if inside.is_dir() else PACKAGE.parent / "recipes"


def load_recipe(
    name_or_path: str, sets: Sequence[str] = (), *, methods: Schemas, backends: Collection[str] = ()
) -> Recipe:
    """Return the recipe of this name or file, changed by `sets` (KEY=VALUE, later ones win) and checked.

    A key is a path: `calibration.count=64`, `model.color=bgr`, `steps.0.epochs=2` for an option of the first step. A
    value is YAML. `methods` and `backends` are what the plug-in folders know; without `backends`, their names pass.

    Raises:
        UnknownName: if there is no recipe of this name.
        RecipeError: listing every mistake with the path of its key.
    """
    path = find_recipe(name_or_path)
    _, values = read_file_of(path)
    mistakes = [mistake for text in sets for mistake in apply_setting(values, text)]
    return read_recipe(values, methods=methods, backends=backends, where=str(path), mistakes=mistakes)


def read_recipe(
    values: Mapping[str, Any],
    *,
    methods: Schemas,
    backends: Collection[str] = (),
    where: str = "recipe",
    mistakes: Sequence[str] = (),
) -> Recipe:
    """Check plain values, as YAML or a manifest gives them, and return the recipe they describe.

    `mistakes` are those already known; they are reported together with what is found here.

    Raises:
        RecipeError: listing every mistake with the path of its key.
    """
    steps, found = _read_steps(values.get("steps"), methods)
    found = [*mistakes, *found, *_backend_mistakes(values.get("backends"), backends)]
    try:
        recipe = Recipe.model_validate({**values, "steps": steps})
    except ValidationError as error:
        found += worded(error, Recipe)
    if found:
        fix = "correct each of the lines above; `qface recipes show int8 --full` prints every key"
        raise mistakes_error(found, where, fix)
    return recipe


def _read_steps(value: object, methods: Schemas) -> tuple[list[Step], list[str]]:
    if not isinstance(value, list) or not value:
        return [], ["steps: a recipe needs a list of at least one step, such as - calibrate"]
    steps: list[Step] = []
    mistakes: list[str] = []
    for index, item in enumerate(value):
        step, found = _read_step(f"steps.{index}", item, methods)
        steps += step
        mistakes += found
    return steps, mistakes


def _read_step(path: str, item: object, methods: Schemas) -> tuple[list[Step], list[str]]:
    """Return the step, if it has no mistakes, and its mistakes."""
    named = {item: {}} if isinstance(item, str) else item
    if not isinstance(named, dict) or len(named) != 1:
        return [], [f"{path}: a step is one method name with its options, not {shown(item)}"]
    ((method, options),) = named.items()
    if method not in methods:
        return [], [f"{path}: there is no method called {shown(method)}{closest(method, methods)}"]
    try:
        checked = methods[method].model_validate({} if options is None else options)
    except ValidationError as error:
        return [], worded(error, methods[method], path, method)
    return [Step(method=method, options=checked)], []


def _backend_mistakes(value: object, known: Collection[str]) -> list[str]:
    names = [name for name in value if isinstance(name, str)] if isinstance(value, list) else []
    unknown = [name for name in names if known and name not in known]
    twice = sorted({name for name in names if names.count(name) > 1})
    return [
        *(f"backends: there is no backend called {shown(name)}{closest(name, known)}" for name in unknown),
        *(f"backends: {shown(name)} is named twice" for name in twice),
    ]
