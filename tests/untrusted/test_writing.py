"""Writing into a folder that may come from elsewhere: no link is followed, and a kill leaves nothing by halves."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from finished_folders import intact

from qface_toolkit.errors import ArtifactError
from qface_toolkit.gate import write_page
from qface_toolkit.result.folder import OutputFolder
from qface_toolkit.result.manifest import add_files, finish_adding, read_manifest
from qface_toolkit.result.writing import write_together
from qface_toolkit.sources import write_set
from qface_toolkit.sources._sets import NamedSet
from qface_toolkit.untrusted import writing
from qface_toolkit.untrusted.json import write_json

JOB = "a" * 64
PRECIOUS = b"years of work"


@pytest.fixture
def victim(tmp_path):
    """Give a file outside every folder that is written to, and see afterwards that it is what it was."""
    (tmp_path / "elsewhere").mkdir()
    file = tmp_path / "elsewhere" / "victim"
    file.write_bytes(PRECIOUS)
    yield file
    assert file.read_bytes() == PRECIOUS
    assert [path.name for path in file.parent.iterdir()] == ["victim"]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


def write_result(out):
    with OutputFolder(out, fingerprint=JOB) as made:
        made.write("a.onnx", b"old")
        made.write("golden.npz", b"old")
        return made.finish({})


WRITERS = {
    "write_inside": lambda folder: writing.write_inside(folder, "new.json", b"new"),
    "write_json": lambda folder: write_json(folder / "new.json", {"new": 1}),
    "write_page": lambda folder: write_page(folder / "new.json", b"new"),
    "write_together": lambda folder: write_together({"new.json": b"new"}, folder, force=True),
    "add_files": lambda folder: add_files(folder, {"new.json": b"new"}, {}),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize("name", ["new.json", ".writing-new.json", ".writing-manifest.json", ".adding-1"])
def test_a_link_that_came_with_the_folder_is_not_followed(write, name, tmp_path, victim):
    folder = write_result(tmp_path / "folder")
    (folder / name).symlink_to(victim.parent if name == ".adding-1" else victim)
    write(folder)
    assert not (folder / "new.json").is_symlink()
    assert b"new" in (folder / "new.json").read_bytes()


@pytest.mark.parametrize("inner", ["work", "images"])
def test_a_linked_folder_inside_is_not_written_to(inner, folder, victim):
    (folder / inner).symlink_to(victim.parent)
    with pytest.raises(ArtifactError, match="a link where"), writing.disk_errors(folder):
        writing.write_inside(folder, f"{inner}/new.json", b"new")


def test_a_folder_that_is_named_by_a_link_is_written_to(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    writing.write_inside(tmp_path / "link", "work/new.json", b"new")
    assert (folder / "work" / "new.json").read_bytes() == b"new"


def test_linked_work_of_a_resumed_job_is_not_followed(tmp_path, victim):
    with OutputFolder(tmp_path / "out", fingerprint=JOB) as made:
        made.write("work/state.bin", b"abc")
        made.mark("draw")
    work = tmp_path / "out.partial" / "work"
    (victim.parent / "state.bin").write_bytes(b"abc")
    (work / "state.bin").unlink()
    work.rmdir()
    work.symlink_to(victim.parent)
    with OutputFolder(tmp_path / "out", fingerprint=JOB, resume=True) as made:
        assert not made.done("draw")
        made.write("work/state.bin", b"new")
        made.finish({})
    (victim.parent / "state.bin").unlink()


@pytest.mark.parametrize("name", ["out.partial", ".out.replaced"])
def test_a_link_where_work_would_stand_is_refused(name, tmp_path, victim):
    (tmp_path / name).symlink_to(victim.parent)
    with pytest.raises(ArtifactError, match="this is a link"):
        OutputFolder(tmp_path / "out", fingerprint=JOB, force=True, resume=True)


@pytest.mark.parametrize("name", ["set", "set.partial"])
def test_a_set_is_not_written_through_a_link(name, tmp_path, victim):
    (tmp_path / name).symlink_to(victim.parent)
    if name == "set":
        with pytest.raises(ArtifactError, match="exists"):
            write_set(NamedSet(kind="noise", count=2), tmp_path / "set")
    else:
        write_set(NamedSet(kind="noise", count=2), tmp_path / "set")
        assert len(list((tmp_path / "set" / "images").iterdir())) == 2


@pytest.mark.parametrize("kind", ["link", "hard link", "pipe"])
def test_a_summary_is_appended_to_a_plain_file_only(kind, folder, victim):
    page = folder / "summary.md"
    {"link": page.symlink_to, "hard link": page.hardlink_to, "pipe": lambda _: os.mkfifo(page)}[kind](victim)
    with pytest.raises(ArtifactError, match="a link|a pipe"):
        write_page(page, b"new", append=True)


def test_a_folder_in_the_way_of_a_file_is_told(folder):
    (folder / "page.md").mkdir()
    with pytest.raises(ArtifactError, match="a folder and not a file") as raised:
        write_page(folder / "page.md", b"new")
    assert raised.value.where == str(folder / "page.md")
    assert [path.name for path in folder.iterdir()] == ["page.md"]


def test_files_are_readable_as_other_programs_would_make_them(folder):
    before = os.umask(0o022)
    try:
        writing.write_inside(folder, "a.json", b"a")
    finally:
        os.umask(before)
    assert (folder / "a.json").stat().st_mode & 0o777 == 0o644


MANY_WRITES = """
import sys
from pathlib import Path
from qface_toolkit.untrusted import writing

writing._sync = writing.os.fsync = lambda descriptor: None
for turn in range(200):
    writing.write_inside(Path(sys.argv[1]), "a.json", sys.argv[2].encode() * 50_000)
"""


def test_two_writers_of_one_file_never_mix(folder):
    both = [subprocess.Popen([sys.executable, "-c", MANY_WRITES, str(folder), letter]) for letter in "xy"]
    assert [process.wait() for process in both] == [0, 0]
    assert (folder / "a.json").read_bytes() in (b"x" * 50_000, b"y" * 50_000)
    assert [path.name for path in folder.iterdir()] == ["a.json"]


EVERY_KILL = """
import os, shutil, signal, sys
from pathlib import Path
from qface_toolkit.result.manifest import add_files, damaged_files, finish_adding, read_manifest

os.fsync = lambda descriptor: None  # a kill, not a power cut

def killed(folder, moment):
    left = moment
    def audit(event, arguments):
        nonlocal left
        if event in {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir"}:
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
    if os.fork() == 0:
        sys.addaudithook(audit)
        add_files(folder, {"golden.npz": b"new", "a.onnx": b"new", "b.onnx": b"new"}, {"told": 1})
        os._exit(0)
    return os.wait()[1] != 0

moment, found = 0, set()
while True:
    folder = Path(shutil.copytree(sys.argv[1], Path(sys.argv[2]) / str(moment)))
    alive = not killed(folder, moment)
    finish_adding(folder)
    manifest = read_manifest(folder)
    assert not damaged_files(folder, manifest)
    state = tuple(name.read_bytes() for name in sorted(folder.iterdir()) if name.name != "manifest.json")
    assert ("told" in manifest.model_extra) == (state == (b"new",) * 3)
    assert state in ((b"old",) * 2, (b"new",) * 3), state
    found.add(state)
    if alive:
        break
    moment += 1
print(moment, len(found))
"""


def test_a_kill_while_files_are_added_adds_all_or_none(tmp_path):
    result = write_result(tmp_path / "out")
    command = [sys.executable, "-c", EVERY_KILL, str(result), str(tmp_path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    moments, states = map(int, done.stdout.split())
    assert moments > 15
    assert states == 2


@pytest.mark.parametrize("damage", ["no manifest", "half a manifest", "another file", "a link"])
def test_what_was_not_all_there_is_not_believed(damage, tmp_path, victim):
    folder = write_result(tmp_path / "out")
    waiting = folder / ".adding-0123456789abcdef"
    waiting.mkdir()
    (waiting / "a.onnx").write_bytes(b"new")
    values = json.loads((folder / "manifest.json").read_text())
    values["files"]["a.onnx"]["size_bytes"] = 4 if damage == "another file" else 3
    text = json.dumps(values)
    if damage == "a link":
        (waiting / "a.onnx").unlink()
        (waiting / "a.onnx").symlink_to(victim)
    if damage != "no manifest":
        (waiting / "manifest.json").write_text(text[:60] if damage == "half a manifest" else text)
    finish_adding(folder)
    intact(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["a.onnx", "golden.npz", "manifest.json"]


def test_leftovers_of_a_killed_writer_are_swept(tmp_path):
    folder = write_result(tmp_path / "out")
    (folder / ".writing-0123456789abcdef").write_bytes(b"half of it")
    add_files(folder, {"b.onnx": b"new"}, {})
    assert sorted(path.name for path in folder.iterdir()) == ["a.onnx", "b.onnx", "golden.npz", "manifest.json"]
    assert set(read_manifest(folder).files) == {"a.onnx", "b.onnx", "golden.npz"}


def test_a_link_to_the_folder_itself_is_the_callers_affair(tmp_path):
    write_result(tmp_path / "out")
    (tmp_path / "link").symlink_to(tmp_path / "out")
    add_files(tmp_path / "link", {"b.onnx": b"new"}, {})
    assert Path(tmp_path / "out" / "b.onnx").read_bytes() == b"new"
