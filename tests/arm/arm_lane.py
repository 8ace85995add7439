"""Python and the package on aarch64: in the root of `arm_root`, under an emulator, as one of three CPUs."""

import os
import subprocess

from arm_root import CHECKOUT, NEWEST, OLDEST, PYTHON, built_root

CPUS = ("cortex-a72", "neoverse-n1", "max")
"""CPUs whose int8 kernels differ: no dot products, dot products, and matrix products and scalable vectors."""

RUNTIMES = (NEWEST, OLDEST)
"""The versions of ONNX Runtime that there are in the root."""


class ArmError(AssertionError):
    """A program failed on aarch64; the message carries what it said."""


def run(cpu, *args, runtime=NEWEST, check=True, cwd=None):
    """Run the root's Python with these arguments on a CPU model; return the completed process, its streams as text.

    `qface_toolkit` is the checkout's. With `check`, a program that fails raises ArmError.
    """
    command, environment = command_line(cpu, *args, runtime=runtime)
    done = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, check=False)
    if check and done.returncode:
        said = (done.stdout + done.stderr).strip()[-3000:]
        raise ArmError(f"{' '.join(map(str, args))} on {cpu}: exit code {done.returncode}\n{said}")
    return done


def command_line(cpu, *args, runtime=NEWEST):
    """Return the command line and the environment of a program on a CPU model."""
    folder = built_root()
    oldest = [folder / "oldest"] if runtime == OLDEST else []
    environment = {
        "PATH": os.defpath,
        "HOME": os.environ.get("HOME", "/"),
        "LANG": "C.UTF-8",
        "QEMU_LD_PREFIX": folder / "root",
        "PYTHONHOME": folder / "root" / "usr",
        "PYTHONPATH": os.pathsep.join(map(str, [*oldest, folder / "site", folder / "torch", CHECKOUT])),
        # What Python compiles is kept with the root; nothing is written into the checkout.
        "PYTHONPYCACHEPREFIX": folder / "pycache",
    }
    python = folder / "root" / "usr" / "bin" / f"python{PYTHON}"
    return [folder / "qemu-aarch64", "-cpu", cpu, python, "-S", *args], environment
