"""What can be told of the documents without running them: length, links, words, and code of kinds that are known."""

import re

import pytest
import yaml
from documents import ALL_PAGES, PAGES, README, ROOT, anchors, blocks, links, masked, sentences, shows, title

from qface_toolkit.gate import read_budgets
from qface_toolkit.pipeline import read_full_recipe
from qface_toolkit.sources import find_set

LANGUAGES = {"sh", "python", "yaml", "toml", "cpp", "text"}
RIDDLES = re.compile(r"\b(some|no|any)bod(y|ies)\b|\banybody's\b|\bsay the same\b", re.IGNORECASE)
LONGEST_README = 200

every_page = pytest.mark.parametrize("page", ALL_PAGES, ids=title)
run_page = pytest.mark.parametrize("page", PAGES, ids=title)


def test_the_readme_is_read_in_five_minutes():
    assert len(README.read_text("utf-8").splitlines()) <= LONGEST_README


@every_page
def test_links_lead_somewhere(page):
    lost = []
    for target in links(page):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            lost.append(target)
    assert not lost


def test_every_page_of_the_folder_can_be_reached_from_the_readme():
    reached = {(README.parent / target.partition("#")[0]).resolve() for target in links(README)}
    assert [page.name for page in PAGES if page.parent == ROOT / "docs" and page not in reached] == []


@every_page
def test_no_page_speaks_in_riddles(page):
    assert [found[0] for found in RIDDLES.finditer(sentences(page))] == []


@run_page
def test_code_is_of_a_kind_that_is_run(page):
    assert {block.language for block in blocks(page)} <= LANGUAGES


def known_command(line):
    """Tell whether a line of the shell is one that a test runs, or one whose target can be looked up."""
    program, *rest = line.split()
    if program == "make":
        return f"\n{rest[0]}:" in (ROOT / "Makefile").read_text("utf-8")
    if program == "python" and rest[0].endswith(".py"):
        return (ROOT / rest[0]).is_file()
    return program in ("qface", "git", "cd", "pip", "pipx", "python3", ".", "sh")


@run_page
def test_commands_are_known(page):
    lines = [line for block in blocks(page, "sh") for line in block.commands()]
    assert [line for line in lines if not known_command(line)] == []


def kind_of(values):
    """Return what a block of YAML is for, by its keys."""
    if "steps" in values and "version" in values:
        return "recipe"
    if "kind" in values:
        return "set"
    return "budgets" if "version" in values else "workflow"


NAMED_YAML = [(page, block) for page in PAGES for block in blocks(page, "yaml")]


@pytest.mark.parametrize(("page", "block"), NAMED_YAML, ids=lambda one: title(one) if one in PAGES else one.name)
def test_yaml_is_what_it_is_shown_as(page, block, tmp_path):
    file, kind = tmp_path / "block.yaml", kind_of(yaml.safe_load(block.text))
    file.write_text(block.text)
    if kind == "workflow":
        jobs = yaml.safe_load(block.text)
        assert any("script" in job or "steps" in job for job in (jobs.get("jobs") or jobs).values())
    elif kind == "budgets":
        assert read_budgets(file)
    else:
        known = block.text if "widen" not in block.text and "stripes" not in block.text else ""
        assert not known or (read_full_recipe(str(file)) if kind == "recipe" else find_set(str(file)))


def test_an_output_is_compared_but_for_its_figures():
    shown = "file  ms\n─────\nint8.x86.onnx  1.50x\n...\nall 4 run\n"
    assert shows(shown, "file    ms\n───\nint8.x86.onnx  0.75x\nmore\nall 21\nrun")
    assert not shows(shown, "file  ms\n─\nint8.x86.onnx  0.75x\nsome run")
    assert not shows("a b\n", "a c\n")
    assert masked("TAR@1e-4 >0.99 (-0.1)") == "TAR@# # (#)"
