"""Run on aarch64: tell as JSON what this is, and which of the instructions that int8 kernels need the CPU executes."""

import ctypes
import json
import mmap
import os
import platform
import resource
import struct

RET = 0xD65F03C0

INSTRUCTIONS = {"sdot v0.4s, v0.16b, v0.16b": 0x4E809400, "smmla v0.4s, v0.16b, v0.16b": 0x4E80A400}


def executes(instruction):
    """Try an instruction in a process of its own, which dies of one that the CPU does not have."""
    child = os.fork()
    if child == 0:
        page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        page.write(struct.pack("<II", instruction, RET))
        ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    executed = [name.split()[0] for name, code in INSTRUCTIONS.items() if executes(code)]
    # It starts threads, beside which no process should fork.
    import onnxruntime

    print(json.dumps({"machine": platform.machine(), "onnxruntime": onnxruntime.__version__, "executes": executed}))
