"""Recipes: every mistake at once with its key path, `--set`, defaults, and text that means harm."""

import json
import re
import string

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from qface_toolkit import methods
from qface_toolkit.errors import QFaceError, RecipeError, UnknownName
from qface_toolkit.pipeline._budget import steps_of
from qface_toolkit.recipe import Recipe, find_recipe, list_recipes, load_recipe, read_recipe
from qface_toolkit.untrusted.yaml import read_yaml


class Calibrate(BaseModel):
    model_config = ConfigDict(extra="forbid")

    observer: str = "mse"
    bins: int = Field(2048, ge=256)


class Distill(BaseModel):
    model_config = ConfigDict(extra="forbid")

    epochs: int = 1
    rate: float = 1e-3


METHODS = {"calibrate": Calibrate, "distill": Distill}
BACKENDS = ("onnx-x86", "onnx-arm", "torch-x86", "torch-qnnpack")
SMALL = "version: 1\nsteps:\n  - calibrate\n"


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "mine.yaml"
        path.write_text(text, "utf-8")
        return str(path)

    return write


def load(name, *sets):
    return load_recipe(name, sets, methods=METHODS, backends=BACKENDS)


def shipped(name):
    """Return a recipe of the package, read by the methods' own schemas."""
    return load_recipe(name, methods={name: one.options for name, one in methods.METHODS.entries().items()})


@pytest.mark.parametrize("name", ["int8", "int8-fast", "int8-best"])
def test_shipped_recipes_are_right_and_introduce_themselves(name):
    assert shipped(name).steps
    assert list_recipes()[name].startswith("int8")
    assert f"{name}.yaml" in str(find_recipe(name))


def test_what_the_recipes_do():
    learned = ["equalize", "calibrate", "reconstruct"]
    assert [step.method for step in shipped("int8").steps] == learned
    assert [step.method for step in shipped("int8-best").steps] == [*learned, "distill"]
    assert [step.method for step in shipped("int8-fast").steps] == ["equalize", "calibrate", "correct_bias"]


@pytest.mark.parametrize("name", ["int8", "int8-fast", "int8-best", "w6a8", "w4a8", "w6a6", "small"])
def test_what_a_recipe_says_of_its_cost_is_what_is_estimated(name):
    said = re.search(r"some ([\d,]+) passes of an image", find_recipe(name).read_text())
    recipe = shipped(name)
    passes = sum(
        methods.METHODS.get(step.method).passes(step.options, recipe.calibration.count) for step in steps_of(recipe)
    )
    assert passes == pytest.approx(int(said[1].replace(",", "")), rel=0.05)


def test_unknown_name_suggests_the_closest():
    with pytest.raises(UnknownName, match="did you mean int8-fast"):
        load("int8-fats")


def test_missing_file_is_named(tmp_path):
    with pytest.raises(RecipeError, match=r"no such recipe file[\s\S]*absent\.yaml"):
        load(str(tmp_path / "absent.yaml"))


@pytest.mark.parametrize(
    "steps", ["[calibrate]", "[calibrate: ]", "[calibrate: {}]"], ids=["bare", "empty", "empty mapping"]
)
def test_a_step_without_options_may_be_written_three_ways(written, steps):
    step = load(written(f"version: 1\nsteps: {steps}")).steps[0]
    assert (step.method, step.options) == ("calibrate", Calibrate())


def test_five_mistakes_are_reported_at_once_with_their_paths(written):
    text = """
        version: 1
        calibratoin: {count: 3}
        calibration: {cuont: 3, batch_size: 0}
        scheme: {weights: {bits: 9}}
        steps:
          - calibrate: {bins: 3, observr: mse}
          - distil
        backends: [onnx-x68]
    """
    with pytest.raises(RecipeError) as caught:
        load(written(text))
    lines = str(caught.value).splitlines()
    for path, hint in {
        "calibratoin": "did you mean calibration?",
        "calibration.cuont": "did you mean count?",
        "calibration.batch_size": "greater than or equal to 1",
        "scheme.weights.bits": "less than or equal to 8",
        "steps.0.calibrate.bins": "256",
        "steps.0.calibrate.observr": "did you mean observer?",
        "steps.1": "did you mean distill?",
        "backends": "did you mean onnx-x86?",
    }.items():
        assert any(line.strip().startswith(path + ":") and hint in line for line in lines), (path, lines)
    assert "8 mistakes" in lines[0]
    assert "mine.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps: [calibrate]", "version: this key is missing"),
        ("version: 2\nsteps: [calibrate]", "version: should be 1"),
        ("version: 1", "steps: a recipe needs"),
        ("version: 1\nsteps: []", "steps: a recipe needs"),
        ("version: 1\nsteps: calibrate", "steps: a recipe needs"),
        ("version: 1\nsteps: [{calibrate: {}, distill: {}}]", "steps.0: a step is one method name"),
        ("version: 1\nsteps: [[calibrate]]", "steps.0: a step is one method name"),
        ("version: 1\nsteps: [{[1]: 2}]", "not YAML that can be used"),
        ("version: 1\nsteps: [calibrate: 7]", "steps.0.calibrate: "),
        (SMALL + "backends: [onnx-x86, onnx-x86]", "'onnx-x86' is named twice"),
        (SMALL + "backends: []", "backends: "),
        (SMALL + "backends: onnx-x86", "backends: "),
        (SMALL + "calibration: {count: yes}", "calibration.count: "),
        (SMALL + "calibration: {count: '12'}", "calibration.count: "),
        (SMALL + "scheme: {weights: {symmetric: false}}", "scheme.weights.symmetric: "),
        (SMALL + "1: 2", "1: "),
        (SMALL + "target: {onnxruntime: 1.17}", "target.onnxruntime: nothing older than 1.18 was tried (it is 1.17)"),
        (SMALL + "target: {onnxruntime: 1.9.5}", "nothing older than 1.18 was tried"),
        (SMALL + "target: {onnxruntime: newest}", "target.onnxruntime: "),
        (SMALL + "target: {vnni: 0}", "target.vnni: should be a valid boolean"),
        (SMALL + "target: {prelu: max}", "target.prelu: should be 'auto', 'twin' or 'scaled'"),
        (SMALL + "target: {lowering: fast}", "target.lowering: should be table, measure or a .json file"),
        (SMALL + "target: {lowering: 3}", "target.lowering: should be a valid string"),
        (SMALL + "export: {input: int8}", "export.input: should be 'float' or 'uint8'"),
        (SMALL + "export: {imput: uint8}", "did you mean input?"),
        ("- version", "a recipe is a mapping"),
        ("", "the recipe file is empty"),
    ],
)
def test_mistakes_in_a_file(written, text, message):
    with pytest.raises(RecipeError) as caught:
        load(written(text))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &a [1]\nb: *a", "anchors and aliases"),
        ("a: &a b", "anchors and aliases"),
        ("a: !!python/object/apply:os.system [id]", "tags are not allowed"),
        ("a: !!int ''", "tags are not allowed"),
        ("a: 1\na: 2", "'a' stands there twice"),
        ("[" * 100_000, "nested more than"),
        ("a: 2001-99-99", "cannot be read"),
        ("a: " + "9" * 5000, "cannot be read"),
        ("a: [", "not YAML that can be used"),
        ("a: \x00", "not YAML that can be used"),
    ],
    ids=["bomb", "anchor", "python", "tag", "twice", "deep", "date", "digits", "open", "control"],
)
def test_harmful_text_is_refused(text, message):
    with pytest.raises(RecipeError, match=message):
        read_yaml(text, where="here")


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"#" * 200_000, "larger than"), (b"version: \xff", "not UTF-8")],
    ids=["large", "latin"],
)
def test_unreadable_files_are_refused(tmp_path, data, message):
    (tmp_path / "mine.yaml").write_bytes(data)
    with pytest.raises(RecipeError, match=message):
        load(str(tmp_path / "mine.yaml"))


@given(st.text(alphabet=string.printable, max_size=80))
def test_any_text_is_read_or_refused(text):
    try:
        values = read_yaml(text, where="here")
    except RecipeError:
        return
    if isinstance(values, dict):
        with pytest.raises(QFaceError):
            read_recipe(values, methods=METHODS)


def test_settings_reach_every_part(written):
    recipe = load(
        written(SMALL + "  - distill:\n"),
        "calibration.count=64",
        "steps.0.bins=512",
        "steps.1.distill.epochs=2",
        "steps.1.rate=1e-4",
        "model.std=[58.395, 57.12, 57.375]",
        "model.color=bgr",
        "target.onnxruntime=1.20",
        "backends=[torch-x86]",
    )
    assert recipe.calibration.count == 64
    assert [step.options for step in recipe.steps] == [Calibrate(bins=512), Distill(epochs=2, rate=1e-4)]
    assert recipe.model == {"std": [58.395, 57.12, 57.375], "color": "bgr"}
    assert recipe.target.onnxruntime == "1.20"
    assert recipe.backends == ("torch-x86",)


def test_where_a_result_will_run(written):
    recipe = load(written(SMALL))
    assert recipe.target.model_dump() == {"vnni": True, "onnxruntime": "1.24", "prelu": "auto", "lowering": "table"}
    assert recipe.export.input == "float"
    changed = ("target.onnxruntime=1.18", "target.vnni=false", "target.prelu=scaled", "target.lowering=times.json")
    recipe = load(written(SMALL), *changed, "export.input=uint8")
    assert list(recipe.target.model_dump().values()) == [False, "1.18", "scaled", "times.json"]
    assert recipe.export.input == "uint8"
    assert read_recipe(recipe.as_plain(), methods=METHODS) == recipe


def test_later_settings_win(written):
    assert load(written(SMALL), "calibration.count=1", "calibration.count=2").calibration.count == 2


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("calibration.count", "write it as KEY=VALUE"),
        ("=3", "write it as KEY=VALUE"),
        ("calibration..count=3", "write it as KEY=VALUE"),
        ("steps.7.bins=3", "there is no step 7; the recipe has 1"),
        ("steps.²=3", "there is no item ²"),
        ("version.x=3", "is a value and not a block"),
        ("calibration.count=[", "not YAML"),
        ("calibration.cuont=3", "did you mean count?"),
        ("steps.0.binz=300", "did you mean bins?"),
    ],
)
def test_mistakes_in_settings_are_reported_with_those_of_the_file(written, setting, message):
    with pytest.raises(RecipeError) as caught:
        load(written(SMALL + "backends: []"), setting)
    assert message in str(caught.value)
    assert "\n  backends: " in str(caught.value)


def test_plain_values_make_the_same_recipe_again(written):
    recipe = load(written(SMALL), "model.mean=127.5", "target.onnxruntime=1.20")
    for full in (True, False):
        plain = json.loads(json.dumps(recipe.as_plain(full=full)))
        again = read_recipe(yaml.safe_load(yaml.safe_dump(plain)), methods=METHODS)
        assert again == recipe


def test_full_values_show_the_defaults(written):
    recipe = load(written(SMALL))
    assert recipe.as_plain(full=False) == {"version": 1, "steps": [{"calibrate": {}}]}
    full = recipe.as_plain()
    assert full["steps"] == [{"calibrate": {"observer": "mse", "bins": 2048}}]
    assert full["calibration"] == {"set": "drawings", "count": 512, "batch_size": 32}
    assert list(full) == list(Recipe.model_fields)


def test_a_recipe_cannot_be_changed_afterwards(written):
    with pytest.raises(ValueError, match="frozen"):
        load(written(SMALL)).version = 2
