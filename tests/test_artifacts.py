"""The output folder: absent or complete after every kind of accident, and what is done is not done again."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from finished_folders import intact

from qface_toolkit.errors import ArtifactError
from qface_toolkit.result.folder import OutputFolder, fingerprint_of
from qface_toolkit.result.manifest import damaged_files, read_manifest
from qface_toolkit.untrusted import writing

JOB = "a" * 64
SHA256_OF_ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def partial(tmp_path):
    return tmp_path / "out.partial"


def finish(out, data=b"abc", **options):
    with OutputFolder(out, fingerprint=JOB, **options) as folder:
        folder.write("float.onnx", data)
        folder.mark("export")
        return folder.finish({"seed": 7})


def leave_unfinished(out):
    with OutputFolder(out, fingerprint=JOB) as folder:
        folder.write("float.onnx", b"abc")
        folder.write("work/state.bin", b"state")
        folder.mark("export", {"seconds": 1.5})
        folder.write("int8.onnx", b"not marked")


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_finished_folder_holds_the_files_and_their_hashes(out, partial):
    assert finish(out) == out
    assert names(out) == ["float.onnx", "manifest.json"]
    assert not partial.exists()
    assert json.loads((out / "manifest.json").read_text()) == {
        "version": 1,
        "made_by": "qface_toolkit",
        "seed": 7,
        "files": {"float.onnx": {"sha256": SHA256_OF_ABC, "size_bytes": 3}},
    }
    assert intact(out).files["float.onnx"].size_bytes == 3


def test_nothing_has_the_final_name_before_the_end(out, partial):
    with OutputFolder(out, fingerprint=JOB) as folder:
        folder.write("float.onnx", b"abc")
        assert folder.path("float.onnx") == partial / "float.onnx"
        assert not out.exists()


def leave_steps(out):
    """Leave unfinished work of two steps of which one rests on the other, and one between them that stands alone."""
    with OutputFolder(out, fingerprint=JOB) as folder:
        for name, alone in (("first 1", False), ("picture 1", True), ("last 2", False)):
            folder.write(name.replace(" ", "-") + ".bin", name.encode())
            folder.mark(name, alone=alone)


@pytest.mark.parametrize(
    ("gone", "left"),
    [
        ("picture-1", {"first 1", "last 2"}),
        ("first-1", {"picture 1"}),
        ("last-2", {"first 1", "picture 1"}),
    ],
)
def test_a_step_that_stands_alone_takes_none_with_it(gone, left, out, partial):
    leave_steps(out)
    (partial / f"{gone}.bin").unlink()
    with OutputFolder(out, fingerprint=JOB, resume=True) as folder:
        assert {name for name in ("first 1", "picture 1", "last 2") if folder.done(name)} == left


def test_nothing_is_resumed_without_what_is_vital_and_nothing_lost(out, partial):
    leave_steps(out)
    (partial / "last-2.bin").write_bytes(b"changed")
    before = names(partial)
    for _ in range(2):
        with pytest.raises(ArtifactError, match="a file of 'last 2' is missing or damaged"):
            OutputFolder(out, fingerprint=JOB, resume=True, vital="last")
        assert names(partial) == before
    (partial / "last-2.bin").write_bytes(b"last 2")
    (partial / "picture-1.bin").unlink()
    with OutputFolder(out, fingerprint=JOB, resume=True, vital="last") as folder:
        assert folder.done("last 2")


def test_existing_folder_is_refused_and_kept(out):
    finish(out)
    with pytest.raises(ArtifactError, match=r"exists[\s\S]*--force"):
        OutputFolder(out, fingerprint=JOB)
    assert (out / "float.onnx").read_bytes() == b"abc"


def test_force_replaces_a_finished_folder_only_at_the_end(out, tmp_path):
    finish(out)
    with OutputFolder(out, fingerprint=JOB, force=True) as folder:
        folder.write("int8.onnx", b"new")
        assert (out / "float.onnx").read_bytes() == b"abc"
        folder.finish({})
    assert names(out) == ["int8.onnx", "manifest.json"]
    assert names(tmp_path) == ["out", "out/int8.onnx", "out/manifest.json"]


@pytest.mark.parametrize("made", ["file", "other folder", "other manifest"])
def test_force_never_removes_what_is_not_ours(out, made):
    if made == "file":
        out.write_text("mine")
    else:
        out.mkdir()
        (out / "manifest.json" if made == "other manifest" else out / "thesis.tex").write_text("{}")
    with pytest.raises(ArtifactError, match="not made by qface"):
        OutputFolder(out, fingerprint=JOB, force=True)
    assert out.exists()
    assert out.is_file() or names(out)


def test_force_takes_an_empty_folder(out):
    out.mkdir()
    finish(out, force=True)
    assert intact(out)


def test_force_refuses_a_foreign_partial_folder(out, partial):
    partial.mkdir()
    (partial / "thesis.tex").write_text("mine")
    with pytest.raises(ArtifactError, match="not made by qface"):
        OutputFolder(out, fingerprint=JOB, force=True)
    assert names(partial) == ["thesis.tex"]


def test_unfinished_work_is_refused_with_the_way_on(out):
    leave_unfinished(out)
    with pytest.raises(ArtifactError, match=r"unfinished work[\s\S]*--resume"):
        OutputFolder(out, fingerprint=JOB)


def test_resume_goes_on_where_the_last_step_ended(out, partial):
    leave_unfinished(out)
    with OutputFolder(out, fingerprint=JOB, resume=True) as folder:
        assert folder.done("export")
        assert not folder.done("lower")
        assert folder.notes("export") == {"seconds": 1.5}
        assert folder.path("work/state.bin").read_bytes() == b"state"
        assert names(partial) == ["float.onnx", "progress.json", "work", "work/state.bin"]
        folder.finish({})
    assert names(out) == ["float.onnx", "manifest.json"]


def test_resume_without_anything_to_resume_starts(out):
    finish(out, resume=True)
    assert intact(out)


def test_resume_of_another_job_is_refused_and_keeps_the_work(out, partial):
    leave_unfinished(out)
    before = names(partial)
    with pytest.raises(ArtifactError, match="another job"):
        OutputFolder(out, fingerprint="b" * 64, resume=True)
    assert names(partial) == before


def test_resume_does_a_step_again_whose_file_was_changed(out, partial):
    leave_unfinished(out)
    (partial / "float.onnx").write_bytes(b"abd")
    with OutputFolder(out, fingerprint=JOB, resume=True) as folder:
        assert not folder.done("export")


def test_resume_keeps_the_steps_before_the_damage(out, partial):
    with OutputFolder(out, fingerprint=JOB) as folder:
        for step in ("one", "two"):
            folder.write(f"{step}.bin", b"abc")
            folder.mark(step)
    (partial / "two.bin").unlink()
    with OutputFolder(out, fingerprint=JOB, resume=True) as folder:
        assert (folder.done("one"), folder.done("two")) == (True, False)


def test_a_later_step_may_write_a_file_again(out):
    with OutputFolder(out, fingerprint=JOB) as folder:
        for step in ("one", "two"):
            folder.write("model.bin", step.encode())
            folder.mark(step)
    with OutputFolder(out, fingerprint=JOB, resume=True) as folder:
        assert folder.done("two")
        assert folder.path("model.bin").read_bytes() == b"two"


def test_force_throws_unfinished_work_away(out):
    leave_unfinished(out)
    with OutputFolder(out, fingerprint="b" * 64, force=True) as folder:
        assert not folder.done("export")
        folder.finish({})
    assert names(out) == ["manifest.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"made_by": "qface_toolkit", "fingerprint": 3}'])
def test_damaged_progress_is_an_error_and_not_a_crash(out, partial, text):
    leave_unfinished(out)
    (partial / "progress.json").write_text(text)
    with pytest.raises(ArtifactError):
        OutputFolder(out, fingerprint=JOB, resume=True)


def test_work_in_which_no_step_is_done_leaves_nothing_behind(out, tmp_path):
    with pytest.raises(KeyboardInterrupt), OutputFolder(out, fingerprint=JOB) as folder:
        folder.write("float.onnx", b"abc")
        raise KeyboardInterrupt
    assert names(tmp_path) == []


def test_a_second_process_is_kept_out(out):
    with OutputFolder(out, fingerprint=JOB) as folder:
        for options in ({"resume": True}, {"force": True}):
            with pytest.raises(ArtifactError, match="another process"):
                OutputFolder(out, fingerprint=JOB, **options)
        folder.write("float.onnx", b"abc")
        folder.finish({})
    assert intact(out)


def test_failed_write_leaves_the_old_file_and_no_scraps(out, partial, monkeypatch):
    def fail(descriptor):
        raise OSError(errno.EIO, "broken")

    with OutputFolder(out, fingerprint=JOB) as folder:
        folder.write("a.bin", b"old")
        with monkeypatch.context() as patch, pytest.raises(ArtifactError, match="the disk says"):
            patch.setattr(writing.os, "fsync", fail)
            folder.write("a.bin", b"half of the new")
        assert names(partial) == ["a.bin", "progress.json"]
        assert folder.path("a.bin").read_bytes() == b"old"


@pytest.mark.parametrize(
    ("number", "message"),
    [(errno.ENOSPC, "disk is full[\\s\\S]*--resume"), (errno.EROFS, "read-only"), (errno.EIO, "the disk says")],
)
def test_disk_errors_are_told_in_words(out, monkeypatch, number, message):
    def fail(descriptor):
        raise OSError(number, os.strerror(number))

    with OutputFolder(out, fingerprint=JOB) as folder:
        monkeypatch.setattr(writing.os, "fsync", fail)
        with pytest.raises(ArtifactError, match=message):
            folder.write("float.onnx", b"abc")
        monkeypatch.undo()


def test_a_disk_that_cannot_sync_folders_will_do_and_a_broken_one_will_not(tmp_path, monkeypatch):
    def fail(descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(writing.os, "fsync", fail)
    number = errno.EINVAL
    writing.sync_folder(tmp_path)
    number = errno.EIO
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        writing.sync_folder(tmp_path)


def test_a_disk_that_is_full_at_the_end_keeps_the_work(out, monkeypatch):
    def fail(self, target):
        raise OSError(errno.ENOSPC, "full")

    with OutputFolder(out, fingerprint=JOB) as folder:
        folder.write("float.onnx", b"abc")
        folder.mark("export")
        monkeypatch.setattr(Path, "rename", fail)
        with pytest.raises(ArtifactError, match="disk is full"):
            folder.finish({})
        monkeypatch.undo()
    assert not out.exists()
    with OutputFolder(out, fingerprint=JOB, resume=True) as folder:
        assert folder.done("export")


def test_a_failed_replacement_puts_the_old_folder_back(out, partial, monkeypatch):
    finish(out)
    rename = Path.rename

    def fail(self, target):
        if self == partial:
            raise OSError(errno.EIO, "broken")
        return rename(self, target)

    with OutputFolder(out, fingerprint=JOB, force=True) as folder:
        folder.write("float.onnx", b"new")
        folder.mark("export")
        monkeypatch.setattr(Path, "rename", fail)
        with pytest.raises(ArtifactError, match="the disk says"):
            folder.finish({})
        monkeypatch.undo()
    assert (out / "float.onnx").read_bytes() == b"abc"
    assert (partial / "float.onnx").read_bytes() == b"new"


def test_a_kill_between_the_two_renames_loses_nothing(out, tmp_path):
    finish(out)
    out.rename(tmp_path / ".out.replaced")
    with pytest.raises(ArtifactError, match="exists"):
        OutputFolder(out, fingerprint=JOB)
    assert intact(out)
    assert not (tmp_path / ".out.replaced").exists()


EVERY_KILL = """
import os, signal, sys
from pathlib import Path
from qface_toolkit.result.folder import OutputFolder
from qface_toolkit.result.manifest import damaged_files, read_manifest

os.fsync = lambda descriptor: None  # a kill, not a power cut

def job(out, data):
    with OutputFolder(out, fingerprint="a" * 64, force=True, resume=True) as folder:
        if not folder.done("export"):
            folder.write("float.onnx", data)
            folder.mark("export")
        folder.write("int8.onnx", data)
        folder.finish({})

def killed(out, moment):
    left = moment
    def audit(event, arguments):
        nonlocal left
        if event in {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree"}:
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
    if os.fork() == 0:
        sys.addaudithook(audit)
        job(out, b"new")
        os._exit(0)
    return os.wait()[1] != 0

moment, aside = 0, 0
while True:
    out = Path(sys.argv[1]) / str(moment) / "out"
    job(out, b"old")
    if not killed(out, moment):
        break
    replaced = out.with_name(".out.replaced")
    aside += not out.exists()
    there = out if out.exists() else replaced
    assert not damaged_files(there, read_manifest(there))
    job(out, b"new")
    assert not damaged_files(out, read_manifest(out))
    assert (out / "int8.onnx").read_bytes() == b"new"
    assert sorted(path.name for path in out.parent.iterdir()) == ["out"]
    moment += 1
print(moment, aside)
"""


def test_a_kill_at_any_moment_loses_nothing(tmp_path):
    command = [sys.executable, "-c", EVERY_KILL, str(tmp_path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    moments, between_renames = map(int, done.stdout.split())
    assert moments > 30
    assert between_renames == 1


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EPERM])
def test_read_only_place_is_told_in_words(out, monkeypatch, number):
    # Not with chmod: whoever runs the tests as root may write anywhere.
    def refuse(self, **options):
        raise OSError(number, os.strerror(number), str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(ArtifactError, match=r"(read-only|may not be written)[\s\S]*choose an --out"):
        OutputFolder(out, fingerprint=JOB)


def test_a_file_in_the_way_is_told_in_words(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="a file and not a folder"):
        OutputFolder(tmp_path / "file" / "out", fingerprint=JOB)


def test_root_is_no_output_folder():
    with pytest.raises(ArtifactError, match="cannot be an output folder"):
        OutputFolder(Path("/"), fingerprint=JOB)


@pytest.mark.parametrize("name", ["../a", "a/b", "/etc/passwd", "", ".hidden", "manifest.json", "progress.json", "a\n"])
def test_names_stay_inside_the_folder(out, name):
    with OutputFolder(out, fingerprint=JOB) as folder, pytest.raises(ValueError, match="cannot be the name"):
        folder.write(name, b"")


def test_steps_and_manifest_keys_are_not_used_twice(out):
    with OutputFolder(out, fingerprint=JOB) as folder:
        folder.mark("export")
        with pytest.raises(ValueError, match="done before"):
            folder.mark("export")
        with pytest.raises(ValueError, match="files"):
            folder.finish({"files": {}})


@pytest.mark.parametrize("change", ["missing", "longer", "same size"])
def test_changed_files_are_named(out, change):
    finish(out)
    path = out / "float.onnx"
    path.unlink() if change == "missing" else path.write_bytes(b"abcd" if change == "longer" else b"abd")
    assert damaged_files(out, read_manifest(out)).keys() == {"float.onnx"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ("[" * 100_000, "not JSON"),
        ('{"version": 2}', "version 2; version 1 is known"),
        ('{"version": 1, "made_by": "qface_toolkit", "files": {"../x": {}}}', "damaged"),
        ('{"version": 1, "made_by": "qface_toolkit", "files": {}, "seed": NaN}', "NaN is not a figure"),
        ('{"version": 1, "made_by": "qface_toolkit", "files": {}, "seed": 1e999}', "1e999 is not a figure"),
    ],
    ids=["truncated", "list", "deep", "version", "path", "nan", "infinite"],
)
def test_damaged_manifests_are_refused(out, text, message):
    out.mkdir()
    (out / "manifest.json").write_text(text)
    with pytest.raises(ArtifactError, match=message):
        read_manifest(out)


def test_missing_manifest_is_told(out):
    with pytest.raises(ArtifactError, match="no such file"):
        read_manifest(out)


def test_fingerprint_depends_on_every_input_and_not_on_order():
    assert fingerprint_of(seed=0, recipe={"a": 1, "b": 2}) == fingerprint_of(recipe={"b": 2, "a": 1}, seed=0)
    assert fingerprint_of(seed=0) != fingerprint_of(seed=1)
