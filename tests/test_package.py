"""The wheel: what is in it and what is not, and that it does its job where there is no checkout."""

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = "qface_toolkit"
DATA = {"recipes": "*.yaml", "calibration": "*.yaml"}
MODEL_FILES = {
    f"{PACKAGE}/models/demo.safetensors",
    f"{PACKAGE}/models/demo.md",
    f"{PACKAGE}/py.typed",
    f"{PACKAGE}/quantize/form_cycles.json",
    f"{PACKAGE}/times/x86.json",
    f"{PACKAGE}/evaluation/published.yaml",
    f"{PACKAGE}/report/templates/report.html",
    f"{PACKAGE}/report/templates/report.css",
}

pytestmark = pytest.mark.slow


def run(*command, **options):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Give a copy of what is committed: an old build folder or a stray file must not reach the wheel."""
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("this is no git checkout")
    folder = tmp_path_factory.mktemp("source")
    run("git", "archive", "--format=tar", f"--output={folder}/all.tar", "HEAD", cwd=ROOT)
    shutil.unpack_archive(folder / "all.tar", folder / "copy")
    return folder / "copy"


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--wheel-dir", folder)
    run(sys.executable, "-m", "pip", "wheel", *options, source)
    (built,) = folder.glob("*.whl")
    return built


def expected_files(source):
    code = {str(path.relative_to(source)) for path in (source / PACKAGE).rglob("*.py")}
    found = (path for folder, kind in DATA.items() for path in (source / folder).rglob(kind))
    data = {f"{PACKAGE}/{path.relative_to(source)}" for path in found}
    return code | data | MODEL_FILES


def test_wheel_holds_these_files_and_nothing_else(wheel, source):
    names = set(zipfile.ZipFile(wheel).namelist())
    about = {name for name in names if ".dist-info/" in name}
    assert names - about == expected_files(source)
    assert {name.partition("/")[2] for name in about} == {
        "METADATA",
        "WHEEL",
        "RECORD",
        "entry_points.txt",
        "top_level.txt",
        "licenses/LICENSE",
    }


def test_embedded_model_is_small(wheel):
    size = zipfile.ZipFile(wheel).getinfo(f"{PACKAGE}/models/demo.safetensors").file_size
    assert size <= 6_000_000, size


@pytest.fixture(scope="module")
def installed(source, tmp_path_factory):
    """Give the command of an environment that was empty before pip put the checkout into it; no compiler is at hand."""
    folder = tmp_path_factory.mktemp("installed") / "env"
    venv.create(folder, with_pip=True)
    options = ("--quiet", "--disable-pip-version-check", "--only-binary=:all:", source)
    run(folder / "bin" / "python", "-m", "pip", "install", *options, env=os.environ | {"PATH": str(folder / "bin")})
    return folder / "bin" / "qface"


def outside(tmp_path):
    """Return how to run a command as far from the checkout as it gets."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return {"cwd": tmp_path, "env": environment | {"PATH": ""}}


def test_installed_package_is_the_one_that_runs(installed, tmp_path):
    program = f"import {PACKAGE}; print({PACKAGE}.__file__)"
    done = run(installed.with_name("python"), "-c", program, **outside(tmp_path))
    assert done.stdout.startswith(str(installed.parent.parent))


@pytest.mark.parametrize("kind", ["models", "recipes", "sets", "sources", "methods", "backends"])
def test_installed_command_finds_its_folders(kind, installed, tmp_path):
    ours = run(sys.executable, "-m", PACKAGE, "list", kind, cwd=ROOT)
    assert run(installed, "list", kind, **outside(tmp_path)).stdout == ours.stdout


def test_installed_command_compresses_the_demo(installed, tmp_path):
    options = ("--recipe", "int8-fast", "--set", "calibration.count=16")
    done = run(installed, "compress", "demo", *options, "--out", "X", **outside(tmp_path))
    assert "Everything is in X" in done.stdout
    written = {path.name for path in (tmp_path / "X").iterdir()}
    assert {"int8.x86.onnx", "int8.x86.ts", "report.json", "manifest.json"} <= written


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_pip_finds_everything_for_each_python(version):
    found = resolved(version)
    assert found.returncode == 0, found.stderr
    assert {"torch", "onnxruntime"} <= {line.partition("==")[0] for line in found.stdout.splitlines()}


def test_there_is_no_runtime_for_an_older_python():
    found = resolved("3.10")
    assert found.returncode != 0
    assert "onnxruntime" in found.stderr


def resolved(version):
    """Let uv choose the newest versions of everything that a release of Python can have, without installing any."""
    options = ("--quiet", "--no-header", "--no-build", "--python-version", version)
    command = (sys.executable, "-m", "uv", "pip", "compile", *options, ROOT / "pyproject.toml")
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
