"""Where figures come from: the seed, the threads, the CPU and the versions, recorded in every report.

The same seed, thread count, kind of machine and versions give the same bytes; anything else is worth knowing.
"""

import functools
import importlib.metadata
import os
import platform
import random
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from qface_toolkit import __version__

FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimd", "asimddp", "i8mm")
"""The CPU features that decide which int8 kernels run, as Linux spells them (asimddp is ARM's dot product)."""

PACKAGES = ("torch", "onnx", "onnxruntime", "numpy", "pillow")

CPUINFO = Path("/proc/cpuinfo")


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
    """Return the CPU's name and those of FLAGS that it has.

    The kernel's own text is read where there is one: py-cpuinfo starts processes and takes a second.
    """
    fields = _kernel_fields(CPUINFO.read_text("utf-8", "replace")) if CPUINFO.exists() else {}
    brand = fields.get("model name")
    flags = fields.get("flags") or fields.get("Features") or ""
    if not fields:
        import cpuinfo

        found = cpuinfo.get_cpu_info()
        brand, flags = found.get("brand_raw"), " ".join(found.get("flags", ()))
    return brand or _arm_name(fields), tuple(flag for flag in FLAGS if flag in flags.split())


def _kernel_fields(text: str) -> dict[str, str]:
    """Return the fields of the first processor in /proc/cpuinfo."""
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
