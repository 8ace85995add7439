"""The action and the shell recipe, run as a CI system runs them, and what their README shows."""

import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from qface_toolkit.gate import Budgets, open_report, read_budgets, update_baseline

ACTION = Path(__file__).parents[1] / ".github" / "actions" / "qface-check"
STEPS = yaml.safe_load((ACTION / "action.yml").read_text())
LOOSE = "latency_growth: null\n"


@pytest.fixture(scope="module")
def result(finished_onnx, tmp_path_factory):
    folder = tmp_path_factory.mktemp("action")
    (folder / "out").symlink_to(finished_onnx / "out")
    update_baseline(open_report(folder / "out"), folder / "baseline.json")
    return folder


@pytest.fixture
def work(result, tmp_path):
    """Return a folder of a job: the result, its baseline, and budgets that no clock can break."""
    for name in ("out", "baseline.json"):
        (tmp_path / name).symlink_to(result / name)
    (tmp_path / "budgets.yaml").write_text(LOOSE)
    return tmp_path


def program(folder, name, text):
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(file.stat().st_mode | stat.S_IEXEC)
    return folder


def environment(work, **more):
    """Return a plain environment in which `qface` is the command of this package."""
    own = program(work / "bin", "qface", f'exec "{sys.executable}" -m qface_toolkit "$@"')
    root = str(Path(__file__).parents[1])
    return {"PATH": f"{own}:/usr/bin:/bin", "HOME": str(work), "LANG": "C.UTF-8", "PYTHONPATH": root} | more


def run_step(step, inputs, work, **more):
    """Run a step of the action as a runner does: inputs put into its environment, bash, stop at the first error."""
    given = {name: one.get("default", "") for name, one in STEPS["inputs"].items()} | inputs
    put = {
        key: re.sub(r"\$\{\{ inputs\.(\w+) \}\}", lambda found: given[found[1]], text)
        for key, text in step["env"].items()
    }
    assert "${{" not in step["run"]
    place = {"GITHUB_ACTION_PATH": str(ACTION), "GITHUB_STEP_SUMMARY": str(work / "summary.md")}
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    env = environment(work, **put, **place) | more
    return subprocess.run(command, cwd=work, env=env, capture_output=True, text=True, check=False)


def recipe(work, *args, **more):
    command = ["sh", str(ACTION / "check.sh"), *map(str, args)]
    env = environment(work, **more)
    return subprocess.run(command, cwd=work, env=env, capture_output=True, text=True, check=False)


def test_every_input_is_described_and_used():
    text = (ACTION / "action.yml").read_text()
    for name, one in STEPS["inputs"].items():
        assert one["description"]
        assert f"${{{{ inputs.{name} }}}}" in text, name
        assert one.get("required") is True or "default" in one
    assert STEPS["runs"]["using"] == "composite"
    assert all(step["shell"] == "bash" for step in STEPS["runs"]["steps"])


def test_install_does_nothing_where_qface_is_there(work):
    program(work / "bin", "python3", "exit 9")
    done = run_step(STEPS["runs"]["steps"][0], {}, work)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(("package", "installed"), [("", f"{ACTION}/../../.."), ("qface==1", "qface==1")])
def test_install_asks_pip_for_the_package(package, installed, work):
    folder = program(work / "pip", "python3", 'echo "$@"')
    path = f"{folder}:/usr/bin:/bin"
    done = run_step(STEPS["runs"]["steps"][0], {"package": package}, work, PATH=path)
    assert done.stdout.split() == ["-m", "pip", "install", "--disable-pip-version-check", installed]
    assert (ACTION / "../../.." / "pyproject.toml").is_file()


def test_the_action_passes_and_writes_the_summary(work):
    inputs = {"report": "out", "baseline": "baseline.json", "budgets": "budgets.yaml", "junit": "junit.xml"}
    done = run_step(STEPS["runs"]["steps"][1], inputs, work)
    assert done.returncode == 0, done.stderr
    assert (work / "summary.md").read_text().startswith("## qface check: ")
    assert (work / "junit.xml").read_bytes().startswith(b"<?xml")


def test_the_action_fails_when_a_budget_is_broken(work):
    (work / "budgets.yaml").write_text(LOOSE)
    found = open_report(work / "out").report
    smaller = tuple(one.model_copy(update={"size_bytes": one.size_bytes // 2, "cost": None}) for one in found.artifacts)
    (work / "small.json").write_text(found.model_copy(update={"artifacts": smaller}).model_dump_json())
    inputs = {"report": "out", "baseline": "small.json", "budgets": "budgets.yaml"}
    done = run_step(STEPS["runs"]["steps"][1], inputs, work)
    assert done.returncode == 1, done.stderr
    assert "**FAILED" in (work / "summary.md").read_text()


def test_inputs_are_no_commands(work):
    hostile = '$(touch owned); `touch owned` "; touch owned #'
    done = run_step(STEPS["runs"]["steps"][1], {"report": hostile, "baseline": "--help"}, work)
    assert done.returncode == 1, done.stderr
    assert "there is no report here" in done.stderr
    assert not (work / "owned").exists()


def test_the_recipe_takes_arguments_and_options(work):
    done = recipe(work, "out", "baseline.json", "--budgets", "budgets.yaml", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert '"outcome": "passed"' in done.stdout


def test_the_recipe_passes_on_what_the_environment_asks_for(work):
    program(work / "echo", "qface", 'printf "%s\\n" "$@"')
    wanted = {
        "QFACE_REPORT": "a b",
        "QFACE_BASELINE": "-c",
        "QFACE_BUDGETS": "d e",
        "QFACE_STRICT": "true",
        "QFACE_MEASURE": "yes",
        "QFACE_JUNIT": "f",
    }
    done = recipe(work, **wanted, PATH=f"{work / 'echo'}:/usr/bin:/bin")
    assert done.stdout.splitlines() == [
        "check",
        "--strict",
        "--measure",
        "--budgets",
        "d e",
        "--junit",
        "f",
        "--baseline=-c",
        "--",
        "a b",
    ]


@pytest.mark.parametrize("more", [{}, {"QFACE_REPORT": "out"}, {"QFACE_BASELINE": "b"}])
def test_the_recipe_says_what_it_needs(more, work):
    done = recipe(work, **more)
    assert (done.returncode, "usage: sh check.sh" in done.stderr) == (2, True)


def test_the_recipe_takes_no_unclear_word_for_a_yes(work):
    done = recipe(work, "out", "baseline.json", QFACE_STRICT="maybe")
    assert (done.returncode, "QFACE_STRICT is 'maybe'" in done.stderr) == (2, True)


def test_budgets_are_the_defaults_and_all_of_them():
    assert read_budgets(ACTION / "budgets.yaml") == Budgets()
    assert yaml.safe_load((ACTION / "budgets.yaml").read_text()).keys() == Budgets.model_fields.keys()


def test_the_readme_shows_a_workflow_with_inputs_that_exist():
    snippets = re.findall(r"```yaml\n(.*?)```", (ACTION / "README.md").read_text(), re.DOTALL)
    workflow, gitlab = map(yaml.safe_load, snippets)
    used = workflow["jobs"]["check"]["steps"][-1]
    assert used["uses"].endswith("/.github/actions/qface-check@main")
    assert used["with"].keys() <= STEPS["inputs"].keys()
    required = {name for name, one in STEPS["inputs"].items() if one.get("required")}
    assert required <= used["with"].keys()
    assert any(line.startswith("qface check ") for line in gitlab["model"]["script"])


def test_commands_in_the_readme_run(work):
    lines = re.findall(r"^    ((?:qface check|sh check\.sh) .*)$", (ACTION / "README.md").read_text(), re.MULTILINE)
    assert len(lines) == 2
    (work / "out").rename(work / "result")
    (work / "check.sh").symlink_to(ACTION / "check.sh")
    for line in lines:
        quick = f"{line} --set latency_growth=null".replace("--measure", "")
        done = subprocess.run(
            quick, shell=True, cwd=work, env=environment(work), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
