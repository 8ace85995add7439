"""The file that travels: how it judges, from numbers known beforehand, and what it says on a target."""

import ast
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from quantized import small_model
from test_verify import ARCHIVES, BAD, golden_with, write_archive
from test_verify import replace as replace_file
from tiers import in_tiers, named_in_tiers

from qface_toolkit import pipeline, verifier
from qface_toolkit.backends import BACKENDS
from qface_toolkit.verifier import About, FileVerdict, Here, Tensor, Verification, judge, sketch

LINUX = Here("Linux", "x86_64", dot_products=True)
ARM = Here("Linux", "aarch64", dot_products=False)
FOLLOWED = About("onnxruntime", "x86", integers=True, vnni=True)
TILES = replace(LINUX, tiles=True)
PICKS_ORDER = About("torch", "x86", integers=True, picks_order=True)
FILE = "int8.x86.onnx"


def at_angles(*degrees):
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def golden(known=FOLLOWED, **more):
    arrays = {"float": at_angles(0, 0), FILE: at_angles(10, 10), **more}
    return arrays if known is None else arrays | {f"{FILE}@about": known.stored()}


@pytest.mark.parametrize(("degrees", "verdict"), [(10, "exact"), (10.001, "differs"), (5, "differs"), (20, "differs")])
def test_where_arithmetic_is_followed_a_file_is_exact_or_it_differs(degrees, verdict):
    found = judge(FILE, golden(), at_angles(10, degrees), on=LINUX)
    assert (found.verdict, found.ran, found.reason is None) == (verdict, True, verdict == "exact")
    assert found.cosine_min == pytest.approx(np.cos(np.radians(degrees - 10)))
    assert found.float_cosine_mean == pytest.approx(np.cos(np.radians([10, degrees])).mean())


def test_how_far_a_file_is_off_is_told():
    assert "further from the float model than promised" in judge(FILE, golden(), at_angles(10, 20), on=LINUX).reason
    assert "as close to the float model as promised" in judge(FILE, golden(), at_angles(10, 5), on=LINUX).reason


UNFOLLOWED = {
    "another system": (FOLLOWED, replace(LINUX, system="Darwin", processor="arm64"), "Darwin, arm64"),
    "another processor": (FOLLOWED, replace(LINUX, processor="riscv64"), "riscv64"),
    "no dot products": (FOLLOWED, replace(LINUX, dot_products=False), "without 8-bit dot products"),
    "matrix tiles": (PICKS_ORDER, TILES, "matrix tiles"),
    "another runtime": (About("openvino", "x86", integers=True), LINUX, "how openvino rounds"),
    "islands in torch": (About("torch", "x86"), LINUX, "computes in float in between"),
    "an older result": (None, LINUX, "older version"),
}


@pytest.mark.parametrize(("known", "on", "said"), UNFOLLOWED.values(), ids=UNFOLLOWED)
@pytest.mark.parametrize(
    ("degrees", "verdict"), [(10, "exact"), (11, "agrees"), (5, "agrees"), (-10, "agrees"), (20, "differs")]
)
def test_what_nobody_follows_must_be_as_close_as_promised(known, on, said, degrees, verdict):
    found = judge(FILE, golden(known), at_angles(10, degrees), on=on)
    assert found.verdict == verdict
    assert found.reason is None if verdict == "exact" else said in found.reason


FOLLOWED_TOO = {
    "arm": (FOLLOWED, ARM),
    "an older processor that the file is made for": (replace(FOLLOWED, vnni=False), replace(LINUX, dot_products=False)),
    "torch on an x86 processor without tiles": (PICKS_ORDER, LINUX),
    "an engine that has no kernels for tiles": (replace(PICKS_ORDER, picks_order=False), TILES),
    "torch anywhere": (About("torch", "x86", integers=True), replace(LINUX, dot_products=False)),
}


@pytest.mark.parametrize(("known", "on"), FOLLOWED_TOO.values(), ids=FOLLOWED_TOO)
def test_where_else_arithmetic_is_followed(known, on):
    assert judge(FILE, golden(known), at_angles(10, 10.001), on=on).verdict == "differs"


def test_each_kind_of_processor_has_a_row_of_its_own():
    arrays = golden(**{f"{FILE}@arm": at_angles(30, 30)})
    assert judge(FILE, arrays, at_angles(30, 30), on=ARM).verdict == "exact"
    assert judge(FILE, arrays, at_angles(30, 30), on=LINUX).verdict == "differs"


def test_the_file_for_another_kind_of_processor_is_none_of_this_name():
    found = judge(FILE, golden(), at_angles(10, 10), on=LINUX, made_for="arm")
    assert (found.verdict, "made for arm" in found.reason) == ("differs", True)


@pytest.mark.parametrize(("off", "verdict"), [(0, "exact"), (5e-5, "agrees"), (2e-4, "differs")])
def test_float_files_may_round_and_no_more(off, verdict):
    got = at_angles(0, np.degrees(off))
    assert judge("float.fast.onnx", golden(), got, on=LINUX).verdict == verdict


@pytest.mark.parametrize(("off", "verdict"), [(0, "exact"), (7e-5, "agrees"), (9e-5, "differs")])
def test_float_files_may_round_as_single_precision_does(off, verdict):
    arrays = golden(**{"float@double": at_angles(0, np.degrees(1e-5))})
    assert judge("float.onnx", arrays, at_angles(0, np.degrees(off)), on=LINUX).verdict == verdict
    assert judge("float.onnx", arrays, at_angles(0, 0) * np.float32(1 + off), on=LINUX).verdict == verdict


@pytest.mark.parametrize("got", [at_angles(10, 10)[:1], at_angles(10, 10) * np.nan, np.zeros((2, 2), np.float32)])
def test_embeddings_that_cannot_be_compared_differ(got):
    found = judge(FILE, golden(), got, on=LINUX)
    assert (found.verdict, found.cosine_min, bool(found.reason)) == ("differs", None, True)


CODES = [np.random.default_rng(number).integers(0, 256, (2, 8, 50, 50), dtype=np.uint8) for number in range(3)]
TENSORS = (Tensor("conv", "a", exact=True), Tensor("norm", "b", exact=False), Tensor("last", "c", exact=True))


def looked(changes=(), **options):
    """Judge a file in which so many codes of an image were changed by some steps: (tensor, image, count, steps)."""
    inside = [codes.copy() for codes in CODES]
    for place, image, count, steps in changes:
        inside[place][image].reshape(-1)[:count] ^= np.uint8(steps)
    arrays = golden(replace(FOLLOWED, tensors=TENSORS, integers=options.get("integers", False)))
    arrays[f"{FILE}@codes"] = np.concatenate([sketch(codes) for codes in CODES], axis=1)
    got = at_angles(10, options.get("degrees", 12))
    return judge(FILE, arrays, got, on=LINUX, look=lambda names: [got, *inside])


INSIDE = {
    "nothing": ((), 10, "exact", None),
    "the tail": ((), 12, "differs", "behind its last codes"),
    "the tail rounds": ((), 10.0001, "agrees", None),
    "a rounding": ([(1, 1, 2, 1)], 12, "agrees", "in 1 of 2 images"),
    "a rounding, and what follows": ([(1, 1, 2, 1), (2, 1, 9000, 7)], 12, "agrees", "first in norm"),
    "too many roundings": ([(1, 1, 40, 1)], 12, "differs", "parts at norm"),
    "too large a step": ([(1, 1, 1, 16)], 12, "differs", "parts at norm"),
    "an integer": ([(2, 1, 1, 1)], 12, "differs", "parts at last"),
    "an integer in the other image": ([(1, 0, 1, 1), (2, 0, 9, 9), (0, 1, 1, 1)], 12, "differs", "parts at conv"),
    "an integer that nobody heeds": ([(0, 0, 1, 1)], 10, "differs", "as expected"),
    "a rounding that nobody heeds": ([(1, 0, 1, 1)], 10, "exact", None),
}


@pytest.mark.parametrize(("changes", "degrees", "verdict", "said"), INSIDE.values(), ids=INSIDE)
def test_what_parts_inside_tells_a_rounding_from_a_wrong_file(changes, degrees, verdict, said):
    found = looked(changes, degrees=degrees)
    assert (found.verdict, found.reason is None) == (verdict, said is None)
    assert said is None or said in found.reason


def test_where_a_file_of_integers_parts_is_told():
    found = looked([(0, 0, 1, 1)], integers=True)
    assert (found.verdict, found.reason.startswith("it parts at conv; it is further from")) == ("differs", True)


def test_a_sketch_tells_how_many_codes_are_others():
    sketches = [sketch(codes) for codes in CODES]
    assert sketches[0].shape == (2, 4) and sketches[0].dtype == np.float32
    for count in (1, 10, 1000):
        other = CODES[0].copy()
        other[0].reshape(-1)[:count] ^= 1
        steps = verifier._steps_apart(sketches[0], sketch(other))
        assert 0.3 * count < steps[0] < 3 * count
        assert steps[1] == 0


def test_sketches_stay_what_they_are():
    """Results hold them."""
    codes = (np.arange(2 * 3 * 100) * 7 % 256).astype(np.uint8).reshape(2, 3, 100)
    assert sketch(codes).tolist() == SKETCHES


SKETCHES = [[245.0, 16552560.0, 16338764.0, 365886.0], [139925.0, 173584.0, 16656588.0, 474106.0]]


def test_how_a_file_computes_is_read_as_it_was_stored():
    known = replace(FOLLOWED, tensors=TENSORS)
    assert About.read(known.stored()) == known


@pytest.mark.parametrize("left_out", ["integers", "vnni", "tensors", "picks_order"])
def test_only_what_older_results_do_not_say_may_be_missing(left_out):
    values = json.loads(PICKS_ORDER.stored().tobytes())
    del values[left_out]
    stored = np.frombuffer(json.dumps(values).encode(), np.uint8)
    if left_out == "picks_order":
        assert About.read(stored) == replace(PICKS_ORDER, picks_order=False)
    else:
        with pytest.raises(ValueError, match="does not say how"):
            About.read(stored)


@pytest.mark.parametrize("name", [FILE, "float.onnx"])
def test_facts_are_found_without_a_library(name, finished):
    content = (finished / "out" / name).read_bytes()
    stored = {entry.key: entry.value for entry in onnx.load_from_string(content).metadata_props}
    for key in (verifier.RUNTIME_KEY, verifier.MACHINE_KEY, "qface.color", "qface.nothing"):
        assert verifier.fact(content, key) == stored.get(key)


@pytest.mark.parametrize("there", [b"", b"qface.machine\x12", b"qface.machine\x12\xff", b"qface.machine\x12\x03arm"])
def test_facts_of_damaged_files(there):
    assert verifier.fact(there, verifier.MACHINE_KEY) in (None, "", "arm")


def test_outputs_are_added_without_a_library(finished):
    content = (finished / "out" / FILE).read_bytes()
    model = onnx.load_from_string(content)
    names = [node.output[0] for node in model.graph.node if node.op_type == "QuantizeLinear"]
    grown = onnx.load_from_string(verifier.with_outputs(content, names * 20))
    assert [value.name for value in grown.graph.output] == ["embedding", *names * 20]
    del grown.graph.output[1:]
    assert grown == model


VERDICTS = [
    (("exact", "agrees"), True),
    (("exact", "cannot run", "unknown"), True),
    (("exact", "differs"), False),
    (("exact", "damaged"), False),
    (("cannot run",), False),
    ((), False),
]


def test_a_file_that_its_runtime_refuses_is_not_trusted():
    sound, refused = FileVerdict("a", "exact"), FileVerdict("b", "cannot run", refused=True)
    assert not Verification((sound, refused), 8).trustworthy


@pytest.mark.parametrize(("verdicts", "trustworthy"), VERDICTS)
def test_a_result_is_trustworthy_if_all_that_runs_agrees(verdicts, trustworthy):
    files = tuple(FileVerdict(str(place), verdict) for place, verdict in enumerate(verdicts))
    assert Verification(files, 8).trustworthy == trustworthy


# The copy in a result, run as a program.


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished / "out", tmp_path / "copy")


def verify_there(folder, *options, program="verify.py"):
    """Run the copy of the verifier that lies in a result; return its exit code and what it said."""
    command = [sys.executable, "-I", folder / program, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def test_a_result_holds_the_verifier_as_it_lies_in_the_package(finished):
    copied, own = finished / "out" / "verify.py", Path(verifier.__file__)
    assert copied.read_bytes() == own.read_bytes()
    assert "verify.py" in json.loads((finished / "out" / "manifest.json").read_text())["files"]


def test_an_export_leaves_the_verifier_of_its_own_version(copy):
    pipeline.export(copy, "onnx-arm", name="int8.mine.onnx")
    code, out, _ = verify_there(copy)
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line}
    assert (code, rows["int8.mine.onnx"][:2]) == (0, ["exact", "exact"])


def test_it_is_written_for_an_older_python():
    ast.parse(Path(verifier.__file__).read_text(), feature_version=(3, 9))


def test_it_needs_numpy_and_onnxruntime_alone(copy):
    program = f"""
import runpy, sys
sys.argv = ["verify.py", {str(copy)!r}]
try:
    runpy.run_path({str(copy / "verify.py")!r}, run_name="__main__")
except SystemExit as stop:
    heavy = {{"torch", "onnx", "pydantic", "rich", "qface_toolkit"}} & set(sys.modules)
    sys.exit(f"{{stop.code}} {{heavy}}" if stop.code or heavy else 0)
"""
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_it_says_what_qface_verify_says(finished):
    folder = finished / "out"
    (code, out, err), found = verify_there(folder), pipeline.verify(folder)
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line}
    onnx_files = [file for file in found.files if file.name.endswith(".onnx")]
    assert (code, err, len(onnx_files)) == (0, "", 4)
    assert {file.name: rows[file.name][0] for file in onnx_files} == {file.name: file.verdict for file in onnx_files}
    assert "not looked at: int8.x86.ts, int8.qnnpack.ts" in out
    assert "4 of 4 files can be trusted here, on 8 golden images." in out
    assert "int8.arm.onnx: run with session.qdqisint8allowed=1" in out
    assert max(map(len, out.splitlines())) <= 80 and out.isascii()
    told = json.loads(verify_there(folder, "--json")[1])
    assert told["files"] == [vars(file) for file in onnx_files]
    assert (told["trustworthy"], told["environment"]["versions"]["onnxruntime"]) == (True, onnxruntime.__version__)


def test_without_its_option_arms_file_gives_other_embeddings_on_x86(finished):
    """What the screen says of it is so."""
    folder = finished / "out"
    arrays = np.load(folder / "golden.npz")
    session = onnxruntime.InferenceSession(folder / "int8.arm.onnx")
    got = session.run(None, {"input": arrays["inputs"]})[0]
    assert judge("int8.arm.onnx", arrays, got, on=verifier.here()).verdict == "differs"
    arrays.close()


def test_a_wrong_file_is_told_by_both(copy):
    wrong = onnx.load(copy / FILE)
    scale = next(tensor for tensor in wrong.graph.initializer if tensor.data_type == 1 and len(tensor.dims) == 1)
    values = onnx.numpy_helper.to_array(scale) * np.float32(1.02)
    scale.CopyFrom(onnx.numpy_helper.from_array(values, scale.name))
    replace_file(copy, FILE, wrong.SerializeToString())
    code, out, _ = verify_there(copy)
    told = next(file for file in pipeline.verify(copy).files if file.name == FILE)
    assert (code, told.verdict) == (1, "differs")
    assert told.reason.startswith("it parts at ")
    assert " ".join(out.split()).count(" ".join(f"{FILE}: {told.reason}".split())) == 1


@pytest.mark.parametrize("name", [FILE, "report.md", "verify.py"])
@pytest.mark.parametrize("damage", in_tiers(("changed", "missing", "a folder"), fast=["changed"]))
def test_damage_is_found_and_the_rest_is_run(name, damage, copy, finished):
    content = (copy / name).read_bytes()
    (copy / name).unlink()
    if damage == "changed":
        (copy / name).write_bytes(content[:-1] + b"?")
    elif damage == "a folder":
        (copy / name).mkdir()
    code, out, _ = verify_there(finished / "out", copy)
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line}
    assert (code, rows[name][0], rows["int8.arm.onnx"][0]) == (1, "damaged", "exact")


MANIFESTS = {
    "nothing": b"",
    "no json": b"\xff\xfe{",
    "a list": b"[]",
    "deep": b"[" * 100_000,
    "another version": b'{"version": 2, "made_by": "qface_toolkit", "files": {}}',
    "files of nothing": b'{"version": 1, "made_by": "qface_toolkit", "files": {"a": null}}',
    "a path": b'{"version": 1, "made_by": "qface_toolkit", "files": {"../a": {"sha256": "", "size_bytes": 1}}}',
    "endless": b'{"version": 1, "made_by": "qface_toolkit", "files": {"a": {"sha256": "", "size_bytes": 1e999}}}',
    "a manifest of no file": b'{"version": 1, "made_by": "qface_toolkit", "files": {}}',
}


@pytest.mark.parametrize("content", named_in_tiers(MANIFESTS, fast=("no json", "deep", "a path", "endless")))
def test_a_damaged_manifest_is_told_in_a_line(content, copy):
    (copy / "manifest.json").write_bytes(content)
    code, out, err = verify_there(copy)
    assert (code, out, len(err.splitlines())) == (1, "", 1)


def test_a_folder_of_something_else(finished, tmp_path):
    code, _, err = verify_there(finished / "out", tmp_path)
    assert (code, "no such file" in err) == (1, True)


@pytest.mark.parametrize("arrays", named_in_tiers(BAD, fast=("an object", "nan", "no float", "flat inputs")))
def test_golden_vectors_that_make_no_sense(arrays, copy):
    replace_file(copy, "golden.npz", golden_with(copy, **arrays))
    code, out, err = verify_there(copy)
    assert (code, out, "golden vectors cannot be used" in err) == (1, "", True)


@pytest.mark.parametrize("kind", in_tiers(ARCHIVES, fast=("no zip", "a bomb", "code")))
def test_hostile_golden_vectors(kind, copy, tmp_path):
    write_archive(tmp_path / "hostile.npz", ARCHIVES[kind])
    replace_file(copy, "golden.npz", (tmp_path / "hostile.npz").read_bytes())
    code, out, err = verify_there(copy)
    assert (code, out, "golden vectors cannot be used" in err) == (1, "", True)


def test_files_that_are_no_models_cannot_run(copy):
    for name in (FILE, "int8.arm.onnx", "float.onnx"):
        replace_file(copy, name, b"not a model")
    code, out, _ = verify_there(copy)
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line}
    assert {" ".join(rows[name][:2]) for name in (FILE, "int8.arm.onnx", "float.onnx")} == {"cannot run"}
    assert (code, rows["float.fast.onnx"][0]) == (1, "agrees")
    assert not pipeline.verify(copy).trustworthy


def test_an_older_runtime_says_what_the_file_needs(copy, monkeypatch, capsys):
    monkeypatch.setattr(onnxruntime, "__version__", "1.20.1")
    code = verifier.main([str(copy), "--json"])
    files = {file["name"]: file for file in json.loads(capsys.readouterr().out)["files"]}
    assert (code, files[FILE]["verdict"], files["float.onnx"]["verdict"]) == (0, "cannot run", "agrees")
    assert files[FILE]["reason"] == "the file needs onnxruntime 1.24.1 or newer, here is 1.20.1"


def test_the_file_of_a_network_with_other_images_differs(copy):
    replace_file(copy, FILE, BACKENDS.get("onnx-x86").lower(small_model("mobilefacenet"), {}))
    code, out, _ = verify_there(copy)
    found = next(file for file in pipeline.verify(copy).files if file.name == FILE)
    said = "it takes images [3, 32, 32], and those of this network are [3, 112, 96]"
    assert (code, found.verdict, found.reason) == (1, "differs", said)
    assert f"{FILE}: {said}" in " ".join(out.split())


def test_a_file_that_nobody_knows_is_not_run(copy):
    shutil.copy(copy / FILE, copy / "int8.stranger.onnx")
    code, out, _ = verify_there(copy)
    assert (code, "int8.stranger.onnx: manifest.json does not know it" in out) == (0, True)


def test_what_is_missing_is_told_in_a_line(copy):
    program = f"import sys; sys.modules['onnxruntime'] = None; import runpy; sys.argv = ['v', {str(copy)!r}]; "
    program += f"runpy.run_path({str(copy / 'verify.py')!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, "onnxruntime" in done.stderr, len(done.stderr.splitlines())) == (1, True, 1)
    done = subprocess.run(
        [sys.executable, "-c", program.replace("'onnxruntime']", "'numpy']")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "pip install numpy" in done.stderr, len(done.stderr.splitlines())) == (1, True, 1)
