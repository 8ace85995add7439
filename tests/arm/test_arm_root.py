"""The root of the ARM lane comes from the machine's own mirrors, once, whole or not at all, and says what it lacks."""

import os
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import arm_root
import pytest

SOURCES = {
    "sources.list": """
deb http://one.example/debian bookworm main contrib
deb [arch=amd64 signed-by=/usr/share/keyrings/some.gpg] https://two.example/mirror/debian/ stable main
# deb http://not.example/debian bookworm main
""",
    "debian.sources": """
Types: deb
URIs: http://one.example/debian
Suites: bookworm bookworm-updates
# URIs: http://not.example/debian
Components: main

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main

Types: deb
URIs: https://two.example/mirror/debian/
Suites: stable
Components: main
""",
}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "qface-arm"


@pytest.mark.skipif(not shutil.which("apt-get"), reason="apt reads its own files")
@pytest.mark.parametrize("name", SOURCES)
def test_mirrors_are_those_of_the_machine(name, tmp_path):
    (tmp_path / name).write_text(SOURCES[name])
    places = {"Dir::Etc::sourcelist": tmp_path / name, "Dir::Etc::sourceparts": "/dev/null", "Dir::State": tmp_path}
    command = ["apt-get", "update", "--print-uris", *(f"-o{key}={place}" for key, place in places.items())]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert sorted(arm_root.debian_mirrors(listing)) == [
        "http://one.example/debian",
        "https://two.example/mirror/debian",
    ]


def test_a_root_is_built_once_however_many_ask(cache, monkeypatch):
    built = []

    def build(folder):
        time.sleep(0.1)
        folder.mkdir()
        built.append(folder)

    monkeypatch.setattr(arm_root, "_build", build)
    with ThreadPoolExecutor(4) as pool:
        roots = {task.result() for task in [pool.submit(arm_root.built_root) for _ in range(4)]}
    assert roots == {*built} == {built[0]} == {path for path in cache.iterdir() if path.is_dir()}


def test_another_wish_is_another_root(cache, monkeypatch):
    monkeypatch.setattr(arm_root, "_build", lambda folder: folder.mkdir())
    first = arm_root.built_root()
    monkeypatch.setattr(arm_root, "NEWEST", "9.9.9")
    assert arm_root.built_root() != first


def test_what_fails_leaves_no_root(cache, monkeypatch):
    def some(folder):
        (folder / "site").mkdir(parents=True)

    def fails(folder):
        raise arm_root.CannotBuild("no such wheel")

    monkeypatch.setattr(arm_root, "_add_debian", some)
    monkeypatch.setattr(arm_root, "WHEELS", (fails,))
    monkeypatch.setattr(arm_root.shutil, "which", lambda name: name)
    monkeypatch.setattr(arm_root, "KEYRING", cache.parent)
    with pytest.raises(arm_root.CannotBuild, match="no such wheel"):
        arm_root.built_root()
    assert [path.suffix for path in cache.iterdir() if path.is_dir()] == [".partial"]
    monkeypatch.setattr(arm_root, "WHEELS", ())
    assert arm_root.built_root().is_dir()
    assert [path.suffix for path in cache.iterdir() if path.is_dir()] == [""]


def test_roots_that_nobody_uses_go(cache):
    for name, days in (("old", arm_root.UNUSED_DAYS + 1), ("new", arm_root.UNUSED_DAYS - 1)):
        (cache / name).mkdir(parents=True)
        os.utime(cache / name, (time.time() - days * 86400,) * 2)
    arm_root._remove_unused(cache)
    assert [path.name for path in cache.iterdir()] == ["new"]


@pytest.mark.parametrize(("in_ci", "code"), [(True, 1), (False, 0)])
def test_without_debian_it_says_so_and_fails_where_all_must_run(in_ci, code, cache, monkeypatch, capsys):
    monkeypatch.setattr(arm_root.shutil, "which", lambda name: None)
    monkeypatch.delenv("CI", raising=False)
    if in_ci:
        monkeypatch.setenv("CI", "true")
    assert arm_root.main() == code
    assert capsys.readouterr().out.startswith("No ARM lane: apt-get, dpkg-deb, tar not found")


def test_without_debians_keys_it_says_what_to_install(cache, monkeypatch, tmp_path):
    monkeypatch.setattr(arm_root.shutil, "which", lambda name: name)
    monkeypatch.setattr(arm_root, "KEYRING", tmp_path / "none.gpg")
    with pytest.raises(arm_root.CannotBuild, match="install debian-archive-keyring"):
        arm_root.built_root()


@pytest.mark.skipif(not shutil.which("apt-get"), reason="asks apt")
def test_without_a_network_it_says_which_mirror_gave_nothing(tmp_path, monkeypatch):
    (tmp_path / "apt.conf").write_text('Acquire::Retries "0";')
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    monkeypatch.setattr(arm_root, "debian_mirrors", lambda listing: ["http://127.0.0.1:9/debian"])
    with pytest.raises(arm_root.CannotBuild, match="no mirror of this machine gave.*\n.*127.0.0.1"):
        arm_root._downloaded(tmp_path)


def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(arm_root.CannotBuild, match="file/qface-arm cannot be written"):
        arm_root.built_root()
