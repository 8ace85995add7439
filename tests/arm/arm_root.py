"""A root with an aarch64 Python, the package's own dependencies and ONNX Runtime, and the emulator that runs it.

`python tests/arm/arm_root.py` builds it in the user's cache folder unless it is there. Nothing is installed: Debian's
packages are unpacked, wheels too, and no program of the root runs while it is built.
"""

import fcntl
import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from packaging.requirements import Requirement

CHECKOUT = Path(__file__).parents[2]

SUITE, PYTHON = "trixie", "3.13"
"""The release of Debian that the root is made of, and its Python; the emulator of the last dies in ONNX Runtime."""

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

PACKAGES = ("python3", "libstdc++6", "libgomp1")
"""What the wheels and their Python need of the system; apt adds what these need."""

EMULATOR = "qemu-user"

NEWEST = importlib.metadata.version("onnxruntime")
"""The newest ONNX Runtime is the one that the tests run in elsewhere."""

OLDEST = "1.24.1"

TORCH = "2.9.1"
"""The wheel of 2.10 dies on a Cortex-A72, of a newer instruction; those of later ones want CUDA's libraries."""

TAGS = tuple(f"manylinux_2_{minor}_aarch64" for minor in range(41, 16, -1)) + ("manylinux2014_aarch64",)
"""The wheels that the root's libc can load."""

UNUSED_DAYS = 14
"""After this a root that is not the one asked for is removed."""


class CannotBuild(Exception):
    """The root cannot be built here; the message says what is missing."""


def cache_folder():
    """Return the folder of all roots."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "qface-arm"


def built_root():
    """Return the folder of the root, built unless it is there; raise CannotBuild where it cannot be."""
    folder = cache_folder() / _key()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                _build(folder)
            os.utime(folder)
    except OSError as error:
        raise CannotBuild(f"{folder.parent} cannot be written: {error}") from error
    return folder


def _key():
    """Return what names the root: everything that is asked for, and how."""
    asked = (Path(__file__).read_text("utf-8"), NEWEST, *_requirements())
    return hashlib.sha256("\n".join(asked).encode()).hexdigest()[:16]


def _build(folder):
    """Build the root beside its place and move it there, so that what stands there is whole."""
    missing = [name for name in ("apt-get", "dpkg-deb", "tar") if not shutil.which(name)]
    if missing:
        raise CannotBuild(f"{', '.join(missing)} not found: the root is made of Debian's packages")
    if not KEYRING.exists():
        raise CannotBuild(f"{KEYRING} not found: install debian-archive-keyring, which vouches for the packages")
    _remove_unused(folder.parent)
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    with ThreadPoolExecutor() as pool:
        tasks = [pool.submit(_add_debian, partial), *(pool.submit(task, partial) for task in WHEELS)]
        for task in tasks:
            task.result()
    partial.rename(folder)


def _remove_unused(cache):
    """Remove the roots that nobody asked for in a while; each is a gigabyte."""
    for root in (path for path in cache.iterdir() if path.is_dir()):
        if time.time() - root.stat().st_mtime > UNUSED_DAYS * 86400:
            shutil.rmtree(root)


def _add_debian(folder):
    """Add Debian's Python to root/ and the emulator beside it."""
    archives = _downloaded(folder / "apt")
    (folder / "root" / "usr" / "lib").mkdir(parents=True)
    (folder / "root" / "lib").symlink_to("usr/lib")
    for archive in archives:
        if archive.name.startswith(f"{EMULATOR}_"):
            _add_emulator(archive, folder)
        else:
            _run("dpkg-deb", "--extract", archive, folder / "root")
    shutil.rmtree(folder / "apt")


def _add_emulator(archive, folder):
    """Unpack one of the many emulators in the package, each of which needs nothing else."""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", archive], stdout=subprocess.PIPE) as files:
        place = ("--directory", folder, "--strip-components", "3")
        _run("tar", "--extract", *place, "./usr/bin/qemu-aarch64", stdin=files.stdout)


def _downloaded(apt):
    """Return the packages, downloaded by apt from the first of the machine's own mirrors that has the release."""
    mirrors = debian_mirrors(_run("apt-get", "update", "--print-uris", f"-oDir::State={apt}"))
    if not mirrors:
        raise CannotBuild("apt on this machine has no source of packages")
    host = _run("dpkg", "--print-architecture").strip()
    refused = []
    for mirror in mirrors:
        command = _apt_command(apt, mirror, host)
        try:
            _run(*command, "-oAPT::Update::Error-Mode=any", "update")
            _run(
                *command,
                "--yes",
                "--download-only",
                "--no-install-recommends",
                "install",
                *PACKAGES,
                f"{EMULATOR}:{host}",
            )
            return sorted(apt.glob("cache/archives/*.deb"))
        except CannotBuild as error:
            refused.append(str(error))
    raise CannotBuild(f"no mirror of this machine gave the packages of Debian {SUITE}:\n" + "\n".join(refused))


def debian_mirrors(listing):
    """Return the mirrors in what `apt-get update --print-uris` says, those with Debian's own layout, each once."""
    return list(dict.fromkeys(re.findall(r"^'(\S+)/dists/[^/\s]+/InRelease'", listing, re.MULTILINE)))


def _apt_command(apt, mirror, host):
    """Return the start of an apt-get command that knows one mirror, nothing that is installed, and its own folder."""
    for name in ("lists/partial", "cache/archives/partial"):
        (apt / name).mkdir(parents=True, exist_ok=True)
    (apt / "status").touch()
    fields = {"Types": "deb", "URIs": mirror, "Suites": SUITE, "Components": "main", "Signed-By": KEYRING}
    (apt / "debian.sources").write_text("".join(f"{name}: {value}\n" for name, value in fields.items()))
    options = {
        "Dir::State": apt,
        "Dir::State::status": apt / "status",
        "Dir::Cache": apt / "cache",
        "Dir::Etc::sourcelist": apt / "debian.sources",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "APT::Architecture": "arm64",
        "Debug::NoLocking": 1,
        # apt's own user may not read a home folder.
        "APT::Sandbox::User": "root",
    }
    architectures = [f"-oAPT::Architectures::={name}" for name in ("arm64", host)]
    return ["apt-get", *(f"-o{name}={value}" for name, value in options.items()), *architectures]


def _requirements():
    """Return what the package needs, as its own metadata says."""
    return tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]


def _add_dependencies(folder):
    """Add what the package and torch need to site/, torch left out."""
    # What torch needs of a platform is CUDA and what goes with it.
    of_torch = [
        need for need in importlib.metadata.requires("torch") if "platform_" not in need and "extra" not in need
    ]
    own = [need for need in _requirements() if Requirement(need).name != "torch"]
    _add_wheels(folder / "site", *own, *of_torch, f"onnxruntime=={NEWEST}")


def _add_torch(folder):
    _add_wheels(folder / "torch", "--no-deps", f"torch=={TORCH}")


def _add_oldest(folder):
    _add_wheels(folder / "oldest", "--no-deps", f"onnxruntime=={OLDEST}")


WHEELS = (_add_torch, _add_dependencies, _add_oldest)


def _add_wheels(site, *requirements):
    """Unpack wheels for the root's Python, which are those that pip picks, into a folder."""
    platforms = [option for tag in TAGS for option in ("--platform", tag)]
    options = ("--quiet", "--no-compile", "--only-binary=:all:", "--python-version", PYTHON, "--target", site)
    _run(sys.executable, "-m", "pip", "install", *options, *platforms, *requirements)


def _run(*command, **streams):
    """Run a command and return what it printed; raise CannotBuild with what it said if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **streams)
    if done.returncode:
        said = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise CannotBuild(f"{Path(command[0]).name} failed ({done.returncode}): {said}")
    return done.stdout


def main():
    """Build the root and say where it is; fail where it cannot be built and must be."""
    began = time.monotonic()
    try:
        folder = built_root()
    except CannotBuild as error:
        print(f"No ARM lane: {error}")
        return 1 if os.environ.get("CI") else 0
    print(f"The aarch64 root is {folder} ({time.monotonic() - began:.0f} s).")
    return 0


if __name__ == "__main__":
    sys.exit(main())
