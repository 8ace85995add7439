"""The record of machine and software, and the seeds that make runs repeat."""

import importlib.metadata
import random
import subprocess
import sys

import pytest
import torch
from helpers import run_here

from qface_toolkit import __version__, cli, environment
from qface_toolkit.backends._onnxruntime import session_options
from qface_toolkit.environment import Environment, read_cpu, record_environment, set_determinism
from qface_toolkit.untrusted import limits
from qface_toolkit.untrusted.limits import peak_memory_bytes

X86 = """processor	: 0
vendor_id	: GenuineIntel
model name	: Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz
flags		: fpu avx2 avx512f avx512_vnni avx_vnni amx_int8 sse
bugs		:

processor	: 1
model name	: another
"""
ARM = """processor	: 0
Features	: fp asimd asimddp i8mm
CPU implementer	: 0x41
CPU part	: 0xd4f
"""


@pytest.fixture
def cpuinfo(tmp_path, monkeypatch):
    def write(text):
        path = tmp_path / "cpuinfo"
        path.write_text(text)
        monkeypatch.setattr(environment, "CPUINFO", path)
        read_cpu.cache_clear()

    yield write
    read_cpu.cache_clear()


def test_x86_name_and_flags_come_from_the_kernel(cpuinfo):
    cpuinfo(X86)
    name, flags = read_cpu()
    assert name == "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz"
    assert flags == ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8")


def test_arm_is_named_by_its_codes(cpuinfo, monkeypatch):
    cpuinfo(ARM)
    monkeypatch.setattr(environment.platform, "machine", lambda: "aarch64")
    assert read_cpu() == ("aarch64 implementer 0x41 part 0xd4f", ("asimd", "asimddp", "i8mm"))


SYSCTL = "machdep.cpu.brand_string: Apple M9\nhw.optional.AdvSIMD: 1\nhw.optional.arm.FEAT_I8MM: 0\n"


@pytest.mark.parametrize("said", [f"echo '{SYSCTL}'", "exit 1", None], ids=["told", "refused", "unknown"])
def test_a_system_without_the_kernels_text_is_asked_otherwise(tmp_path, monkeypatch, cpuinfo, said):
    cpuinfo("")
    monkeypatch.setattr(environment, "CPUINFO", tmp_path / "absent")
    monkeypatch.setattr(environment.platform, "machine", lambda: "arm64")
    monkeypatch.setenv("PATH", str(tmp_path))
    if said:
        (tmp_path / "sysctl").write_text(f"#!/bin/sh\n{said}\n")
        (tmp_path / "sysctl").chmod(0o755)
    assert read_cpu() == (("Apple M9", ("asimd",)) if said and "echo" in said else ("arm64", ()))


def test_record_names_versions_and_survives_json():
    record = record_environment(seed=3, threads=2)
    assert (record.seed, record.threads) == (3, 2)
    assert record.versions["qface_toolkit"] == __version__
    assert record.versions["torch"] == importlib.metadata.version("torch")
    assert record.cpu
    assert Environment.model_validate_json(record.model_dump_json()) == record


def test_packages_that_are_not_there_are_left_out(monkeypatch):
    monkeypatch.setattr(environment, "PACKAGES", ("numpy", "qface-no-such-package"))
    assert set(record_environment(0, 1).versions) == {"qface_toolkit", "numpy"}


def test_recording_imports_no_torch():
    program = "import sys; from qface_toolkit.environment import record_environment; record_environment(0, 1); "
    program += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_determinism_repeats_torch_and_python():
    threads = torch.get_num_threads()
    try:
        drawn = []
        for _ in range(2):
            set_determinism(seed=5, threads=1)
            drawn.append((random.random(), torch.rand(3).tolist()))
        assert drawn[0] == drawn[1]
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(threads)


@pytest.mark.slow
def test_peak_memory_is_that_of_the_process_alone():
    """A child of a large process is not itself large."""
    held = bytearray(600_000_000)
    code = "from qface_toolkit.untrusted.limits import peak_memory_bytes; print(peak_memory_bytes())"
    child = int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert 1_000_000 < child < len(held) < peak_memory_bytes()


def test_peak_memory_without_the_kernels_text(tmp_path, monkeypatch):
    expected = peak_memory_bytes()
    monkeypatch.setattr(limits, "STATUS", tmp_path / "absent")
    assert peak_memory_bytes() >= 0.5 * expected


def test_the_command_has_threads_sleep_unless_the_user_wants_otherwise(monkeypatch):
    told = """
import os
from qface_toolkit._process import settle_process
settle_process()
print(os.environ['OMP_WAIT_POLICY'], os.environ.get('GOMP_SPINCOUNT'))
"""
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    for chosen, expected in (("", ["PASSIVE", "2000"]), ("ACTIVE", ["ACTIVE", "None"])):
        monkeypatch.setenv("OMP_WAIT_POLICY", chosen)
        if not chosen:
            monkeypatch.delenv("OMP_WAIT_POLICY")
        done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
        assert done.stdout.split() == expected


def test_the_command_settles_its_process_before_it_does_anything(monkeypatch, capsys):
    settled = []
    monkeypatch.setattr(cli, "settle_process", lambda *, spinning: settled.append(spinning))
    assert run_here(monkeypatch, capsys, "--version")[0] == 0
    assert run_here(monkeypatch, capsys, "benchmark", "--help")[0] == 0
    assert settled == [False, True]


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_freed_memory_is_used_again():
    """A large block that was freed and asked for again must not be zeroed by the system a second time."""
    program = """
import resource
from qface_toolkit._process import settle_process
settle_process()
import numpy as np
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.empty(64 << 20, np.uint8)[:: 4096] = 1
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
first, second = faults(), faults()
print(first, second)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    first, second = map(int, done.stdout.split())
    assert first > 10 * max(second, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_freed_memory_is_given_back():
    program = """
from qface_toolkit._process import settle_process
settle_process()
from qface_toolkit.untrusted.limits import give_back_memory
def held():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 >> 20
blocks = [bytearray(1 << 20) for _ in range(200)]
last = bytearray(1 << 20)
del blocks
before = held()
give_back_memory()
print(before - held())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 150


@pytest.mark.parametrize(("spinning", "told"), [(False, "0"), (True, None)])
def test_threads_of_onnxruntime_spin_where_they_are_timed_alone(spinning, told):
    options = session_options(2, spinning=spinning)
    if told is None:
        with pytest.raises(RuntimeError):
            options.get_session_config_entry("session.intra_op.allow_spinning")
    else:
        assert options.get_session_config_entry("session.intra_op.allow_spinning") == told
