"""IJB and whole suites through `qface evaluate`, on files of the layout that licensees have."""

import json
import pickle

import pytest
from helpers import run_here
from ijb_files import write_protocol
from PIL import Image

from qface_toolkit.evaluation.synthetic import synthetic_people

QUICK = ("--draws", "20", "--quiet")


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Give a folder with IJBC/ and lfw.bin, made of drawings."""
    folder = tmp_path_factory.mktemp("sets")
    write_protocol(folder / "IJBC")
    drawn = synthetic_people(11, 2)
    pairs = [(2 * person, 2 * (person + shift) + 1, not shift) for person in range(10) for shift in (0, 1)]
    for index in {index for *rows, _ in pairs for index in rows}:
        Image.fromarray(drawn.images.crop(index)).save(folder / f"{index}.png")
    images = [(folder / f"{index}.png").read_bytes() for *rows, _ in pairs for index in rows]
    (folder / "lfw.bin").write_bytes(pickle.dumps((images, [same for *_, same in pairs]), protocol=2))
    return folder


@pytest.fixture
def qface(monkeypatch, capsys):
    return lambda *args: run_here(monkeypatch, capsys, *args)


def test_templates_are_judged_beside_the_float_model(qface, sets, finished_onnx):
    model = finished_onnx / "out" / "float.onnx"
    args = (model, "--ijb", sets / "IJBC", "--reference", model, *QUICK)
    code, out, err = qface("evaluate", *args, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["flip"] is True
    assert found["figures"]["templates"]["genuine"] == 3
    assert found["figures"]["templates"] == found["reference_figures"]["templates"]
    assert found["paired"]["figures"]["mixed_tar_lost@1e-1"]["value"] == 0
    code, out, _ = qface("evaluate", *args)
    assert code == 0
    assert "TAR at the FPR nearest to each FAR" in out
    assert "6 templates" not in out
    assert "FAR 1e-6, 1e-5, 1e-4, 1e-3, 1e-2: less than one impostor pair" in " ".join(out.split())


@pytest.mark.slow
def test_a_suite_stands_beside_the_published_rows(qface, sets, tmp_path):
    args = ("--suite", "quantface", sets, "--folds", "5", "--draws", "20", "--out", tmp_path / "found")
    code, out, _ = qface("evaluate", "demo", *args)
    assert code == 0
    *lines, last = out.splitlines()
    assert last == f"Everything is in {tmp_path / 'found'} - start with {tmp_path / 'found' / 'suite.md'}"
    assert max(map(len, lines)) <= 80
    ours = next(line for line in lines if line.startswith("demo"))
    assert ours.split()[1:2] != ["-"]
    assert any(line.startswith("QuantFace iResNet100") for line in lines)
    assert "CFP-FP is not here" in out
    assert "w8a8 synthetic" in " ".join(out.split())
    assert "the abstract states neither the model nor the bits" in " ".join(out.split())
    found = json.loads((tmp_path / "found" / "suite.json").read_text())
    assert found["evaluations"].keys() == {"lfw", "ijbc"}
    assert found["missing"].keys() == {"cfp_fp", "agedb_30", "calfw", "cplfw", "ijbb"}
    page = (tmp_path / "found" / "suite.md").read_text()
    assert "| LFW |" in page.replace("| --: |", "")


def test_a_suite_of_nothing_is_said(qface, tmp_path):
    code, out, err = qface("evaluate", "demo", "--suite", "quantface", tmp_path, *QUICK)
    assert (code, out) == (1, "")
    assert "lfw.bin" in err


@pytest.mark.slow
def test_a_damaged_set_costs_no_other_ones_figures(qface, sets, tmp_path):
    (tmp_path / "lfw.bin").write_bytes((sets / "lfw.bin").read_bytes())
    (tmp_path / "calfw.bin").write_bytes(b"damaged")
    code, out, _ = qface("evaluate", "demo", "--suite", "quantface", tmp_path, "--folds", "5", *QUICK)
    assert code == 0
    assert "CALFW has no figures: this is no pairs file" in " ".join(out.split())
    (tmp_path / "lfw.bin").unlink()
    assert qface("evaluate", "demo", "--suite", "quantface", tmp_path, *QUICK)[0] == 1
