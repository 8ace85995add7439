"""Where figures come from: the seed, the threads, the CPU and the versions, recorded in every report.

The same seed, thread count, kind of machine and versions give the same bytes; anything else is worth knowing.
"""

import functools
import importlib.metadata
import os
import platform
import random
import subprocess
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from qface_toolkit import __version__
from qface_toolkit.verifier import Machine, machine_of

FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimd", "asimddp", "i8mm")
"""The CPU features that decide which int8 kernels run, as Linux spells them (asimddp is ARM's dot product)."""

PACKAGES = ("torch", "onnx", "onnxruntime", "numpy", "pillow")

CPUINFO = Path("/proc/cpuinfo")

SYSCTL_FLAGS = {
    "hw.optional.avx2_0": "avx2",
    "hw.optional.avx512f": "avx512f",
    "hw.optional.avx512vnni": "avx512_vnni",
    "hw.optional.AdvSIMD": "asimd",
    "hw.optional.arm.FEAT_DotProd": "asimddp",
    "hw.optional.arm.FEAT_I8MM": "i8mm",
}
"""The names that macOS has for some of FLAGS, where there is no /proc/cpuinfo."""


class Environment(BaseModel):
    """The machine and software of one run: `cpu_flags` are those of FLAGS that are there, `cores` those we may use."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int
    threads: int = Field(ge=1)
    cpu: str
    cpu_flags: tuple[str, ...]
    cores: int = Field(ge=1)
    machine: str
    os: str
    python: str
    versions: dict[str, str]


def record_environment(seed: int, threads: int) -> Environment:
    """Return what this process runs on; cheap, and without importing any of the packages it names."""
    brand, flags = read_cpu()
    return Environment(
        seed=seed,
        threads=threads,
        cpu=brand,
        cpu_flags=flags,
        cores=usable_cores(),
        machine=platform.machine(),
        os=platform.platform(),
        python=platform.python_version(),
        versions={"qface_toolkit": __version__, **_versions()},
    )


def machine_here() -> Machine:
    """Return the kind of processor that this process runs on."""
    return machine_of(platform.machine())


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_determinism(seed: int, threads: int) -> None:
    """Seed Python's and torch's global generators and fix torch's thread count.

    numpy's global generator stays as it is: nothing here draws from it.
    """
    import torch

    random.seed(seed)
    torch.manual_seed(seed)
    torch.set_num_threads(threads)


@functools.cache
def read_cpu() -> tuple[str, tuple[str, ...]]:
    """Return the CPU's name and those of FLAGS that it has, as the kernel tells."""
    if not CPUINFO.exists():
        return _asked_cpu()
    fields = _kernel_fields(CPUINFO.read_text("utf-8", "replace"))
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    return fields.get("model name") or _arm_name(fields), tuple(flag for flag in FLAGS if flag in flags)


def _asked_cpu() -> tuple[str, tuple[str, ...]]:
    """Return what macOS's kernel tells when it is asked; elsewhere no more than the kind of machine is known."""
    names = ["machdep.cpu.brand_string", *SYSCTL_FLAGS]
    try:
        # -i: names that this kernel does not know are left out.
        told = subprocess.run(["sysctl", "-i", *names], capture_output=True, text=True, check=False, timeout=5).stdout
    except (OSError, subprocess.TimeoutExpired):
        told = ""
    fields = _kernel_fields(told)
    found = {flag for name, flag in SYSCTL_FLAGS.items() if fields.get(name) == "1"}
    return fields.get(names[0]) or platform.machine() or "unknown", tuple(flag for flag in FLAGS if flag in found)


def _kernel_fields(text: str) -> dict[str, str]:
    """Return the fields of the first processor in /proc/cpuinfo, or of what sysctl printed."""
    pairs = (line.partition(":") for line in text.partition("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs if value.strip()}


def _arm_name(fields: dict[str, str]) -> str:
    """Return the codes by which ARM kernels name a CPU, or the kind of machine."""
    codes = [f"{key[4:]} {fields[key]}" for key in ("CPU implementer", "CPU part") if key in fields]
    return " ".join([platform.machine() or "unknown", *codes])


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
