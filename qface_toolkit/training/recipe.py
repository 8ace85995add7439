"""A training recipe: how a student is trained, in one small YAML file that is checked as a whole before it is begun.

The same keys are changed by `--set`: `epochs=2`, `width=0.5`, `loss.kd=100`. Whoever got five things wrong learns of
all five at once.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationError,
    model_validator,
)

from qface_toolkit.recipe import headers, named_file, read_file_of, recipe_folder
from qface_toolkit.training.losses import DistanceName, MarginName
from qface_toolkit.untrusted.settings import apply_setting, mistakes_error, worded

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]


class _Block(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class Losses(_Block):
    """What the loss is a sum of; a weight of 0 leaves a part out.

    `kd`: the distance to the teacher's embeddings, 100 as PocketNet has it, by `distance`. `relation`: the difference
    of the batch's cosine matrices. `classes`: the cross entropy of the cosines to all identities times `scale`, after
    `margin` of `margin_width`; the margin grows within `margin_epochs`, the weight within `class_epochs`; `sample` is
    the share of other identities that a batch is held against. `traits`: the error of a linear guess at what drawn
    people look like, which falls to nothing over the run. `features`: how far the last feature map is from the
    teacher's.
    """

    kd: Weight = 100.0
    distance: DistanceName = "mse"
    relation: Weight = 0.0
    features: Weight = 0.0
    classes: Weight = 1.0
    margin: MarginName = "arcface"
    margin_width: Annotated[float, Field(ge=0, lt=1.5)] = 0.5
    scale: Positive = 64.0
    margin_epochs: Weight = 0.0
    class_epochs: Weight = 0.0
    sample: Annotated[float, Field(gt=0, le=1)] = 1.0
    traits: Weight = 0.0


class Teachers(_Block):
    """How teachers take turns: one an epoch, from these epochs on (counted from 1), or spread evenly over all epochs.

    `projection` puts a linear map behind a student whose embedding is of another size; it is dropped at the end.
    `model` holds facts of the teachers to override, such as mean.
    """

    from_epochs: tuple[Annotated[StrictInt, Field(ge=1)], ...] = ()
    spread: StrictBool = False
    projection: StrictBool = False
    model: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _in_order(self) -> "Teachers":
        if self.from_epochs and (self.from_epochs[0] != 1 or list(self.from_epochs) != sorted(set(self.from_epochs))):
            raise ValueError("from_epochs should begin with 1 and rise")
        return self


class Optimizer(_Block):
    """SGD with Nesterov's momentum, or AdamW; gradients longer than `clip` are cut to it.

    The rate rises within `warmup_epochs`, then falls by half a cosine, by `factor` after each epoch of `milestones`, or
    not at all. Decay pulls at weights alone, not at scales, shifts and slopes.
    """

    name: Literal["sgd", "adamw"] = "sgd"
    learning_rate: Positive = 0.1
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Weight = 5e-4
    clip: Positive = 5.0
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    milestones: tuple[Annotated[StrictInt, Field(ge=1)], ...] = ()
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    warmup_epochs: Weight = 0.0


class Augment(_Block):
    """How crops are changed at random before networks see them: the same for student and teacher.

    `mirror`, `gray`, `blur` and `erase` are the shares of images that are mirrored, made gray, made of few pixels, and
    partly covered. `shift` in pixels, `zoom` as a share of the size, `turn` in degrees, `light` (gain) and `contrast`
    are largest changes. `mix`: the share of images into which another one is blended, for learning from a teacher
    alone.
    """

    mirror: Share = 0.5
    shift: Annotated[StrictInt, Field(ge=0, le=28)] = 0
    zoom: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    turn: Annotated[float, Field(ge=0, le=45)] = 0.0
    light: Annotated[float, Field(ge=0, lt=1)] = 0.0
    contrast: Annotated[float, Field(ge=0, lt=1)] = 0.0
    gray: Share = 0.0
    blur: Share = 0.0
    erase: Share = 0.0
    mix: Share = 0.0


class DataOptions(_Block):
    """What is taken of the data: `count`, `images_per_identity` and `seed` are for sets that are drawn.

    `held_out` is never learnt from and measured after each epoch: so many identities where there are labels, otherwise
    images; if it is not said, a twentieth of them.
    `cache` is a folder that keeps what was drawn for other trainings; without it, drawings go when a training ends.
    """

    count: Annotated[StrictInt, Field(ge=1)] | None = None
    images_per_identity: Annotated[StrictInt, Field(ge=1)] | None = None
    seed: Annotated[StrictInt, Field(ge=0)] | None = None
    held_out: Annotated[StrictInt, Field(ge=0)] | None = None
    cache: Path | None = None
    workers: Annotated[StrictInt, Field(ge=1, le=256)] = 2


class Quantize(_Block):
    """Learning through the network as int8 computes it; `recipe` is the one of `compress` that will lower it."""

    recipe: StrictStr = "born-int8"


class TrainingRecipe(_Block):
    """A whole training recipe.

    `batch_size` is that of all processes together. `width` scales the student's channels, `embedding_size` replaces its
    own. `average` is the decay of a running average of the weights, which is then what is kept. `patience`: end after
    so many epochs without a better held-out figure, and keep the best one; without it, the last epoch is kept.
    `checkpoint_steps`: how often a state to resume from is written, beside each epoch's end.
    """

    version: Literal[1]
    epochs: Annotated[StrictInt, Field(ge=1, le=10_000)] = 10
    batch_size: Annotated[StrictInt, Field(ge=2)] = 64
    width: Annotated[float, Field(gt=0, le=8)] = 1.0
    embedding_size: Annotated[StrictInt, Field(ge=4, le=8192)] | None = None
    loss: Losses = Losses()
    teacher: Teachers = Teachers()
    optimizer: Optimizer = Optimizer()
    augment: Augment = Augment()
    data: DataOptions = DataOptions()
    average: Annotated[float, Field(ge=0, lt=1)] = 0.0
    patience: Annotated[StrictInt, Field(ge=1)] | None = None
    snapshots: StrictBool = True
    checkpoint_steps: Annotated[StrictInt, Field(ge=1)] = 200
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["float32", "bfloat16"] = "float32"
    channels_last: StrictBool = True
    compile: StrictBool = False
    quantize: Quantize | None = None
    model: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fits_together(self) -> "TrainingRecipe":
        for wrong, what in (
            (self.optimizer.schedule == "step" and not self.optimizer.milestones, "schedule step needs milestones"),
            (self.patience is not None and self.data.held_out == 0, "patience needs data.held_out above 0"),
            (self.quantize is not None and self.snapshots, "quantize leaves no snapshots: set snapshots to false"),
        ):
            if wrong:
                raise ValueError(what)
        return self

    def as_plain(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        return self.model_dump(mode="json")


def list_training_recipes() -> dict[str, str]:
    """Return the names of the training recipes of the package, each with the first line of its header comment."""
    return headers(_folder())


def find_training_recipe(name_or_path: str) -> Path:
    """Return the file of the training recipe of this name, or the user's own; see `recipe.named_file`."""
    return named_file("training recipe", name_or_path, _folder())


def load_training_recipe(name_or_path: str, sets: Sequence[str] = ()) -> TrainingRecipe:
    """Return the training recipe of this name or file, changed by `sets` (KEY=VALUE, later ones win) and checked.

    Raises:
        UnknownName: if there is none of this name.
        RecipeError: listing every mistake with the path of its key.
    """
    path = find_training_recipe(name_or_path)
    _, values = read_file_of(path)
    mistakes = [mistake for text in sets for mistake in apply_setting(values, text)]
    try:
        recipe = TrainingRecipe.model_validate(values)
    except ValidationError as error:
        mistakes += worded(error, TrainingRecipe)
    if mistakes:
        raise mistakes_error(mistakes, str(path))
    return recipe


def _folder() -> Path:
    return recipe_folder() / "training"
