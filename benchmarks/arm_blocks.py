"""Count what onnxruntime executes on an emulated ARM processor, and model the cycles: a part of `arm_forms.py`.

qemu-user writes into its log each block of instructions when it translates it, and the address of each block that it
enters. A block ends at a branch, so that the body of a loop is one. llvm-mca knows, from what the designers of a core
have published, how many cycles its busiest unit needs for a block when nothing is waited for.
"""

import os
import re
import shlex
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

GUEST = Path(__file__).with_name("arm_guest.py")

Block = tuple[str, ...]
"""The instructions of a block as hexadecimal words."""


@dataclass(frozen=True)
class Core:
    """A processor: its name for the emulator and for LLVM, and how many instructions a cycle it decodes at most.

    LLVM's models limit the parts that instructions are made of, which some cores issue faster than they decode.
    """

    emulated: str
    model: str
    decodes: int


Runs = Mapping[str, Counter[Block]]
"""How often each block ran, by the file that was run."""


def count(root: Path, core: Core, folder: Path, optimised: Path) -> Runs:
    """Count what each file of a folder executes on a core; `optimised` is an empty one.

    `root` holds `qemu-aarch64`, a Python in `root/usr/bin`, and its packages in `site`.
    """
    said = subprocess.run(
        _command(root, core, (), "optimise", folder, optimised),
        env=_environment(root),
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    ranges = said.split()[1]
    log = ("-d", "in_asm,exec,nochain", "-dfilter", ranges, "-D", "/dev/stdout")
    command = _command(root, core, log, "run", optimised)
    with subprocess.Popen(command, env=_environment(root), stdout=subprocess.PIPE, bufsize=1 << 20) as process:
        assert process.stdout is not None
        runs = read_log(process.stdout, ranges)
    if process.returncode or len(runs) != len(list(folder.iterdir())):
        raise RuntimeError(f"on {core.emulated}: {len(runs)} files ran, exit code {process.returncode}")
    return runs


def _command(root: Path, core: Core, log: Sequence[str], *task: object) -> list[str]:
    """Return the command line of the guest; without random addresses its code lies where it lay before."""
    python = next((root / "root/usr/bin").glob("python3.[0-9]*[0-9]"))
    emulator = ["setarch", "-R", root / "qemu-aarch64", "-cpu", core.emulated, *log]
    return [str(part) for part in (*emulator, python, "-S", GUEST, *task)]


def _environment(root: Path) -> dict[str, str]:
    return {
        "PATH": os.defpath,
        "QEMU_LD_PREFIX": str(root / "root"),
        "PYTHONHOME": str(root / "root/usr"),
        "PYTHONPATH": str(root / "site"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def read_log(lines: Iterable[bytes], ranges: str) -> Runs:
    """Read a log with the guest's marks in it; what other threads than its first run does not count.

    Raises:
        RuntimeError: if the runtime's code was not where the log was filtered for.
    """
    latest: dict[int, list[str]] = {}
    ran: dict[bytes, Block] = {}
    runs: dict[str, Counter[Block]] = {}
    name, now = None, Counter[bytes]()
    words: list[str] = []
    for line in lines:
        if line.startswith(_ENTERED):
            # One address may be translated several times, in other lengths: the whole line tells them apart.
            if line not in ran:
                ran[line] = tuple(latest[int(line.split(b"/", 2)[1], 16)])
            now[line] += 1
        elif line.startswith(b"0x"):
            address, word = line.split(None, 2)[:2]
            if not words:
                latest[int(address.removesuffix(b":"), 16)] = words
            words.append(word.decode())
        elif line.startswith(b"IN:"):
            words = []
        elif line.startswith((b"BEGIN", b"END")):
            if name is not None:
                runs[name] = _by_block(now, ran)
            name, now = line.split()[1].decode() if line.startswith(b"BEGIN") else None, Counter()
        elif line.startswith(b"CODE") and line.split()[1].decode() != ranges:
            raise RuntimeError(f"the runtime's code lies elsewhere: {line.decode()}")
    return runs


_ENTERED = b"Trace 0:"
"""How the log says that the first thread enters a block."""


def _by_block(entered: Mapping[bytes, int], ran: Mapping[bytes, Block]) -> Counter[Block]:
    found: Counter[Block] = Counter()
    for line, times in entered.items():
        found[ran[line]] += times
    return found


DOTS, MATRICES = ("sdot", "udot", "usdot"), ("smmla", "ummla", "usmmla")
_MULTIPLIES = re.compile(r"[suf]?(q?r?dmul|mul|mla|mls)")
_VECTOR = re.compile(r"\b[vqdshbz]\d+\b")
_BOUND = "Block RThroughput:"


def kind_of(instruction: str) -> str:
    """Return what an instruction does, roughly, from its assembly text."""
    name = instruction.split()[0]
    if name in (*DOTS, *MATRICES):
        return "dot products" if name in DOTS else "matrix products"
    if name.startswith(("ld", "prfm")):
        return "loads"
    if name.startswith("st"):
        return "stores"
    if not _VECTOR.search(instruction):
        return "scalar"
    return "multiplications" if _MULTIPLIES.match(name) else "other vector"


class Analyser:
    """What LLVM says of blocks: the text of their instructions, and the cycles that they keep a core busy at least."""

    def __init__(self, folder: Path | None) -> None:
        """Take llvm-mc and llvm-mca from a folder, or from where the shell finds them."""
        self._folder = folder
        self._texts: dict[str, str] = {}

    def _output(self, program: str, text: str, *options: str) -> list[str]:
        path = str(self._folder / program) if self._folder else program
        command = [path, "-triple=aarch64" if program == "llvm-mc" else "-mtriple=aarch64", "-mattr=+all", *options]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{shlex.join(command)}: {_errors(done.stderr)}")
        return done.stdout.splitlines()

    def texts(self, runs: Runs) -> Mapping[str, str]:
        """Return the assembly text of every instruction word that ran."""
        words = sorted({word for run in runs.values() for block in run for word in block} - self._texts.keys())
        bytes_of = (" ".join(f"0x{byte:02x}" for byte in bytes.fromhex(word)[::-1]) for word in words)
        printed = self._output("llvm-mc", "\n".join(bytes_of), "-disassemble")
        lines = [line.strip() for line in printed if line.startswith("\t") and line.strip() != ".text"]
        self._texts |= dict(zip(words, lines, strict=True))
        return self._texts

    def cycles(self, runs: Runs, core: Core) -> Mapping[Block, float]:
        """Return for each block that ran the cycles that its busiest unit, or the decoder, needs for it."""
        blocks = sorted({block for run in runs.values() for block in run})
        bounds = self._bounds(blocks, core, self.texts(runs))
        return {block: max(bound, len(block) / core.decodes) for block, bound in zip(blocks, bounds, strict=True)}

    def _bounds(self, blocks: Sequence[Block], core: Core, texts: Mapping[str, str]) -> list[float]:
        regions = (
            f"# LLVM-MCA-BEGIN {number}\n" + "\n".join(texts[word] for word in block)
            for number, block in enumerate(blocks)
        )
        # No core's model has atomic additions, of which there are a few in a run.
        views = ("-all-views=false", "-summary-view", "-iterations=1", "-skip-unsupported-instructions=lack-sched")
        said = self._output("llvm-mca", "\n# LLVM-MCA-END\n".join((*regions, "")), f"-mcpu={core.model}", *views)
        return [float(line.removeprefix(_BOUND)) for line in said if line.startswith(_BOUND)]


def _errors(said: str) -> str:
    """Return the first errors of what LLVM says, which warns of every call and return."""
    return "; ".join([line for line in said.splitlines() if "error" in line][:3])


def kinds(blocks: Mapping[Block, int], texts: Mapping[str, str]) -> dict[str, int]:
    """Return how many instructions of each kind ran in blocks that ran so often."""
    found: Counter[str] = Counter()
    for block, times in blocks.items():
        for word in block:
            found[kind_of(texts[word])] += times
    return dict(found)
