"""The action and the shell recipe, run as a CI system runs them, and what their README shows."""

import json
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

from qface_toolkit import __version__
from qface_toolkit.gate import Budgets, open_report, read_budgets, update_baseline
from qface_toolkit.pipeline import EvaluationSet, evaluate, write_evaluation
from qface_toolkit.sources._sets import find_set

ACTION = Path(__file__).parents[1] / ".github" / "actions" / "qface-check"
STEPS = yaml.safe_load((ACTION / "action.yml").read_text())
LOOSE = "latency_growth: null\n"
QUICK = {"verify": "false", "evaluate": "false"}
ALONE = {"QFACE_VERIFY": "false", "QFACE_EVALUATE": "false"}


@pytest.fixture(scope="module")
def result(finished_onnx, tmp_path_factory):
    """Return a folder with a result, its evaluation on four crops, and the baseline of both."""
    folder = tmp_path_factory.mktemp("action")
    shutil.copytree(finished_onnx / "out", folder / "out")
    shutil.copy(finished_onnx / "tiny.pth", folder / "tiny.pth")
    drawings = find_set("drawings-heldout").open(count=4)
    for number in range(4):
        # Two drawings of one person are parted, so that rank 1 is not reached.
        crop = folder / "people" / f"person{number % 2}" / f"{number // 2}.png"
        crop.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(drawings.crop(number)).save(crop)
    write_evaluation(evaluate(folder / "out", EvaluationSet(faces=folder / "people", draws=10)), folder / "out")
    update_baseline(open_report(folder / "out"), folder / "baseline.json")
    return folder


@pytest.fixture
def work(result, tmp_path):
    """Return a folder of a job: the result, its baseline, and budgets that no clock can break."""
    shutil.copytree(result, tmp_path, dirs_exist_ok=True)
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


@pytest.mark.parametrize(
    ("inputs", "installed"),
    [
        ({}, [f"{ACTION}/../../.."]),
        ({"package": "qface==1"}, ["qface==1"]),
        ({"package": "qface==1", "constraints": "a b.txt"}, ["-c", "a b.txt", "qface==1"]),
    ],
)
def test_install_asks_pip_for_the_package(inputs, installed, work):
    folder = program(work / "pip", "python3", 'printf "%s\\n" "$@"')
    path = f"{folder}:/usr/bin:/bin"
    done = run_step(STEPS["runs"]["steps"][0], inputs, work, PATH=path)
    assert done.stdout.splitlines() == ["-m", "pip", "install", "--disable-pip-version-check", *installed]
    assert (ACTION / "../../.." / "pyproject.toml").is_file()


def test_the_action_passes_and_writes_the_summary(work):
    inputs = {"report": "out", "baseline": "baseline.json", "budgets": "budgets.yaml", "junit": "junit.xml"}
    done = run_step(STEPS["runs"]["steps"][1], inputs | QUICK, work)
    assert done.returncode == 0, done.stderr
    assert (work / "summary.md").read_text().startswith("## qface check: ")
    assert (work / "junit.xml").read_bytes().startswith(b"<?xml")


def test_the_action_fails_when_a_budget_is_broken(work):
    (work / "budgets.yaml").write_text(LOOSE)
    found = open_report(work / "out").report
    smaller = tuple(one.model_copy(update={"size_bytes": one.size_bytes // 2, "cost": None}) for one in found.artifacts)
    (work / "small.json").write_text(found.model_copy(update={"artifacts": smaller}).model_dump_json())
    inputs = {"report": "out", "baseline": "small.json", "budgets": "budgets.yaml"}
    done = run_step(STEPS["runs"]["steps"][1], inputs | QUICK, work)
    assert done.returncode == 1, done.stderr
    assert "**FAILED" in (work / "summary.md").read_text()


def test_inputs_are_no_commands(work):
    hostile = '$(touch owned); `touch owned` "; touch owned #'
    done = run_step(STEPS["runs"]["steps"][1], {"report": hostile, "baseline": "--help"}, work)
    assert done.returncode == 1, done.stderr
    assert "there is no report here" in done.stderr
    assert not (work / "owned").exists()


def test_the_recipe_takes_arguments_and_options(work):
    done = recipe(work, "out", "baseline.json", "--budgets", "budgets.yaml", "--json", **ALONE)
    assert (done.returncode, done.stderr) == (0, "")
    assert '"outcome": "passed"' in done.stdout


def test_the_recipe_passes_on_what_the_environment_asks_for(work):
    program(work / "echo", "qface", 'printf "%s\\n" "$@"')
    (work / "a b").mkdir()
    wanted = {
        "QFACE_REPORT": "a b",
        "QFACE_FACES": "g h",
        "QFACE_BASELINE": "-c",
        "QFACE_BUDGETS": "d e",
        "QFACE_STRICT": "true",
        "QFACE_MEASURE": "yes",
        "QFACE_JUNIT": "f",
    }
    done = recipe(work, **wanted, PATH=f"{work / 'echo'}:/usr/bin:/bin")
    assert done.stdout.splitlines() == [
        *("verify", "--", "a b"),
        *("evaluate", "--faces=g h", "--out=a b", "--force", "--", "a b"),
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


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, "--synthetic"),
        ({"QFACE_PAIRS": "lfw.bin"}, "--pairs=lfw.bin"),
        ({"QFACE_FACES": "people"}, "--faces=people"),
    ],
)
def test_the_recipe_evaluates_on_drawn_people_where_no_faces_are_given(more, said, work):
    program(work / "echo", "qface", 'echo "$@"')
    done = recipe(work, "out", "baseline.json", **more, PATH=f"{work / 'echo'}:/usr/bin:/bin")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["verify", "evaluate", "check"]
    assert f"evaluate {said} --out=out --force -- out" in done.stdout.splitlines()


@pytest.mark.parametrize("wrong", ["verify", "evaluate", "check"])
def test_a_job_fails_by_each_of_its_commands_and_runs_all_of_them(wrong, work):
    program(work / "echo", "qface", f'echo "$1"; test "$1" != {wrong}')
    done = recipe(work, "out", "baseline.json", PATH=f"{work / 'echo'}:/usr/bin:/bin")
    assert (done.returncode, done.stdout.split()) == (1, ["verify", "evaluate", "check"])


def test_of_a_report_alone_the_recipe_says_that_no_file_is_looked_at(work):
    shutil.copy(work / "out" / "report.json", work / "alone.json")
    done = recipe(work, "alone.json", "baseline.json", "--budgets", "budgets.yaml")
    assert (done.returncode, "no file of it is verified or evaluated" in done.stderr) == (0, True)
    assert done.stdout.startswith("PASSED, BUT ")


@pytest.mark.slow
def test_a_whole_job_verifies_evaluates_and_compares(work):
    """Nothing here is a stand-in but the faces, which are four drawings."""
    done = recipe(work, "out", "baseline.json", "--budgets", "budgets.yaml", "--strict", QFACE_FACES="people")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "can be trusted here" in done.stdout
    assert "rank1" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("PASSED: ")


def test_an_evaluation_that_fell_fails_the_job(work):
    place = work / "baseline.evaluation.json"
    found = json.loads(place.read_text())
    assert found["figures"]["every_pair"]["rank1"] < 0.9
    found["figures"]["every_pair"]["rank1"] += 0.1
    place.write_text(json.dumps(found))
    done = recipe(work, "out", "baseline.json", "--budgets", "budgets.yaml", **ALONE)
    assert (done.returncode, "FAILED: int8.x86.onnx: rank1 " in done.stdout) == (1, True), done.stdout


@pytest.mark.slow
def test_a_damaged_file_fails_the_job_and_its_verification(work):
    with (work / "out" / "int8.x86.onnx").open("ab") as file:
        file.write(b"\0")
    done = recipe(work, "out", "baseline.json", "--budgets", "budgets.yaml", QFACE_EVALUATE="false")
    assert done.returncode == 1
    assert "it is not what the manifest says" in " ".join(done.stdout.split())
    assert done.stdout.splitlines()[-1].startswith("FAILED: ")


SNIPPETS = re.findall(r"```yaml\n(.*?)```", (ACTION / "README.md").read_text(), re.DOTALL)
WORKFLOW, GITLAB = map(yaml.safe_load, SNIPPETS)
JOB = WORKFLOW["jobs"]["check"]
USES = [step["uses"] for step in JOB["steps"] if "uses" in step]


def test_the_workflow_gives_the_action_inputs_that_it_has():
    used = JOB["steps"][-1]
    assert "/.github/actions/qface-check@" in used["uses"]
    assert used["with"].keys() <= STEPS["inputs"].keys()
    assert {name for name, one in STEPS["inputs"].items() if one.get("required")} <= used["with"].keys()
    listed = re.findall(
        r"`(\w+)`", (ACTION / "README.md").read_text().partition("Further inputs: ")[2].partition(";")[0]
    )
    assert {*listed, *used["with"]} == STEPS["inputs"].keys()


def test_the_workflow_pins_what_it_uses():
    assert all(re.search(r"@(v\d+\.\d+\.\d+|[0-9a-f]{40})$", one) for one in USES)
    installs = [step["run"] for step in JOB["steps"] if "pip install" in step.get("run", "")] + [
        line for line in GITLAB["model"]["script"] if "pip install" in line
    ]
    assert len(installs) == 2
    assert all("-c constraints.txt" in line and re.search(r"qface_toolkit@(v\d|\$QFACE)", line) for line in installs)
    assert GITLAB["model"]["variables"]["QFACE"] == f"v{__version__}"
    assert all(one.endswith(f"@v{__version__}") for one in USES if "qface" in one)


def test_the_cache_is_keyed_by_all_that_a_result_is_made_of():
    (cache,) = [step["with"] for step in JOB["steps"] if "actions/cache@" in step.get("uses", "")]
    assert cache["path"] == "result"
    assert "restore-keys" not in cache, "a result of another checkpoint would do"
    for part in ("backbone.pth", "constraints.txt", ".github/workflows/model.yml", "runner.os", "runner.arch"):
        assert part in cache["key"]
    # The recipe and the version stand in the workflow itself.
    assert JOB["env"]["RECIPE"] in read_recipes()
    key = GITLAB["model"]["cache"]["key"]
    assert (key["prefix"], key["files"]) == ("qface-$QFACE-$RECIPE", ["backbone.pth", "constraints.txt"])


def read_recipes():
    return {path.stem for path in (Path(__file__).parents[1] / "recipes").glob("*.yaml")}


@pytest.fixture
def job(work):
    """Return a folder of a job in which compressing is planned for real and its result is at hand."""
    (work / "tiny.pth").rename(work / "backbone.pth")
    (work / "out").rename(work / "made")
    (work / "baseline.json").rename(work / "qface-baseline.json")
    (work / "baseline.evaluation.json").rename(work / "qface-baseline.evaluation.json")
    shutil.copy(ACTION / "check.sh", work / "check.sh")
    planned = (
        'if [ "$1" = compress ]; then echo compressing; real "$@" --dry-run && cp -r made result; else real "$@"; fi'
    )
    real = f'real() {{ "{sys.executable}" -m qface_toolkit "$@"; }}\n'
    shown = 'if [ "$2" = pip ]; then echo "$@" >> pip.log; else exec "$0.real" "$@"; fi'
    program(work / "job", "qface", real + planned)
    program(work / "job", "python3", shown)
    return work


def shell(job, line, **more):
    # Whether a latency can be told depends on the day.
    more = {"QFACE_FACES": "people", "QFACE_BUDGETS": "budgets.yaml"} | more
    env = environment(job, **more) | {"PATH": f"{job / 'job'}:/usr/bin:/bin"}
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", line.replace(" --measure", "")]
    return subprocess.run(command, cwd=job, env=env, capture_output=True, text=True, check=False)


def run_workflow(job):
    """Run the steps of the workflow as a runner does, where a result in the folder is one from the cache."""
    hit, said = (job / "result").is_dir(), ""
    for step in JOB["steps"]:
        if step.get("if"):
            assert step["if"] == "steps.earlier.outputs.cache-hit != 'true'"
            if hit:
                continue
        if "/qface-check@" in step.get("uses", ""):
            inputs = step["with"] | {"measure": "false", "faces": "people", "budgets": "budgets.yaml"}
            done = [run_step(one, inputs, job, PATH=f"{job / 'job'}:/usr/bin:/bin") for one in STEPS["runs"]["steps"]][
                -1
            ]
        elif "run" in step:
            done = shell(job, step["run"], **JOB["env"])
        else:
            continue
        said += done.stdout + done.stderr
        if done.returncode:
            return done.returncode, said
    return 0, said


def run_gitlab(job):
    done = shell(job, "\n".join(GITLAB["model"]["script"]), **GITLAB["model"]["variables"])
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("run", [run_workflow, run_gitlab])
def test_the_published_jobs_run_and_compress_once(run, job):
    for compressed in (1, 0):
        code, said = run(job)
        assert code == 0, said
        assert said.count("compressing") == compressed
        assert "can be trusted here" in said
        assert "PASSED: " in said
    assert (job / "pip.log").read_text().count("-m pip install -c constraints.txt git+") == 2


@pytest.mark.slow
@pytest.mark.parametrize("run", [run_workflow, run_gitlab])
def test_a_result_that_was_spoiled_in_the_cache_fails_the_published_jobs(run, job):
    shutil.copytree(job / "made", job / "result")
    shutil.copy(job / "result" / "float.onnx", job / "result" / "int8.x86.onnx")
    code, said = run(job)
    assert (code, "compressing" in said) == (1, False)
    assert "FAILED: int8.x86.onnx: it is not the file that the manifest speaks of" in " ".join(said.split())


COMMANDS = re.findall(r"^    ((?:qface|sh|python3) .*)$", (ACTION / "README.md").read_text(), re.MULTILINE)


def test_checks_in_the_readme_run(job):
    shutil.copytree(job / "made", job / "result")
    lines = [line for line in COMMANDS if "check" in line]
    assert len(lines) == 2
    for line in lines:
        done = shell(job, line, **ALONE)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_all_commands_in_the_readme_run(job):
    assert [line.split()[:2] for line in COMMANDS] == [
        *(["qface", verb] for verb in ("compress", "evaluate", "check")),
        ["python3", "-m"],
        ["sh", "check.sh"],
    ]
    for line in COMMANDS:
        done = shell(job, line.replace("--synthetic", "--faces people --draws 10"))
        assert done.returncode == 0, done.stdout + done.stderr
