"""How often `qface check --measure` cries wolf beside a busy process, and how often it misses what it must find.

    python benchmarks/false_alarms.py RESULT --runs 50 --save benchmarks/results/false_alarms.json

RESULT is a folder of `qface compress` with int8.x86.onnx in it. Each run is a process of its own, as in a CI job: it
measures the unchanged result against the result's own baseline, then one whose int8 file is 15 % slower with the same
operators. Meanwhile another process keeps a core busy half of the time, in bursts of 20 to 500 ms. The other spoiled
results differ in what does not depend on the machine, and are checked with the latencies of the same run.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from spoiled import depthwise_layers, larger, put_island_back, slower, spoil_agreement, spoil_file

from qface_toolkit.environment import record_environment
from qface_toolkit.gate import Timing, Verdict, compare, open_report, read_budgets, update_baseline
from qface_toolkit.pipeline import measure_beside
from qface_toolkit.pipeline._benchmark import benchmark
from qface_toolkit.pipeline._check import LONGEST_S
from qface_toolkit.runtimes import FAST_ARTIFACT
from qface_toolkit.runtimes.time_ratio import time_ratio
from qface_toolkit.untrusted.json import write_json

SLOWER_SHARE = 0.15
WITHIN = 0.01
SAME, SLOW = "unchanged", "15 % slower, same operators"
SPOILED = ("a float island put back", "1 % larger", "0.002 lower in cosine")
BURST_S = (0.02, 0.5)


def main() -> None:
    """Make the spoiled results, run the checks and write what came out."""
    wanted = _arguments()
    if wanted.run is not None:
        print(json.dumps(run_once(wanted.result, wanted.longest)))
        return
    with tempfile.TemporaryDirectory() as folder:
        found = statistics(wanted.result, Path(folder), wanted.runs, wanted.longest)
    print(json.dumps({key: value for key, value in found.items() if key != "runs"}, indent=2))
    if wanted.save:
        write_json(wanted.save, found)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--save", type=Path)
    parser.add_argument("--longest", type=float, default=LONGEST_S, help="seconds of measuring in each check")
    parser.add_argument("--run", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def statistics(result: Path, work: Path, runs: int, longest_s: float) -> dict[str, object]:
    """Return the outcomes of so many runs, and how long and how loaded they were."""
    slowed = make_results(result, work, longest_s)
    found, loads, seconds = [], [], []
    with busy_process():
        for number in range(runs):
            started = time.perf_counter()
            found.append(_in_a_process(work, number, longest_s))
            loads.append(round(os.getloadavg()[0], 2))
            seconds.append(round(time.perf_counter() - started, 1))
            print(f"{number + 1}/{runs}: {found[-1]} load {loads[-1]}", file=sys.stderr)
    names = (SAME, SLOW, *SPOILED)
    return {
        "result": result.name,
        "outcomes": {name: dict(Counter(run[name]["outcome"] for run in found)) for name in names},
        "latency_outcomes": {name: dict(Counter(run[name]["latency"] for run in found)) for name in (SAME, SLOW)},
        "growth": {name: _spread([run[name]["growth"] for run in found]) for name in (SAME, SLOW)},
        "slower_by_when_made": slowed,
        "budgets": read_budgets().model_dump(),
        "load_average": {"lowest": min(loads), "highest": max(loads), "mean": round(float(np.mean(loads)), 2)},
        "seconds_of_a_run": {"median": float(np.median(seconds)), "longest": max(seconds)},
        "environment": record_environment(0, 1).model_dump(mode="json"),
        "runs": found,
    }


def _spread(values: list[float]) -> dict[str, float]:
    spread = {"median": np.median(values), "lowest": min(values), "highest": max(values), "std": np.std(values)}
    return {name: round(float(value), 4) for name, value in spread.items()}


def _in_a_process(work: Path, number: int, longest_s: float) -> dict[str, dict[str, object]]:
    command = [sys.executable, __file__, str(work), "--run", str(number), "--longest", str(longest_s)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, dict[str, object]] = json.loads(done.stdout)
    return found


def run_once(work: Path, longest_s: float) -> dict[str, dict[str, object]]:
    """Check every result once."""
    timing = _measured(work / SAME, longest_s)
    found = {name: _checked(work, name, timing) for name in (SAME, *SPOILED)}
    return {**found, SLOW: _checked(work, SLOW, _measured(work / SLOW, longest_s))}


def _measured(folder: Path, longest_s: float) -> tuple[Timing, float]:
    started = time.perf_counter()
    return measure_beside(open_report(folder), longest_s=longest_s), time.perf_counter() - started


def _checked(work: Path, name: str, measured: tuple[Timing, float]) -> dict[str, object]:
    timing, seconds = measured
    verdict: Verdict = compare(open_report(work / name), open_report(work / "baseline.json"), read_budgets(), timing)
    latency = next(one for one in verdict.findings if one.figure == "latency_ratio")
    change = latency.change
    return {
        "outcome": verdict.outcome,
        "failed": [one.figure for one in verdict.of("failed")],
        "latency": latency.outcome,
        "growth": round(change.value, 4) if change else None,
        "interval": [round(change.low, 4), round(change.high, 4)] if change else None,
        "measured_s": round(seconds, 1),
        "rounds": len(timing.files[FAST_ARTIFACT].samples_ms),
    }


def make_results(result: Path, work: Path, longest_s: float) -> float:
    """Write the unchanged result, the spoiled ones and the baseline; return by how much the slow one is slower."""
    (work / SAME).symlink_to(result.resolve())
    island, heavy, apart = SPOILED
    spoil_file(result, work / island, put_island_back)
    spoil_file(result, work / heavy, larger)
    spoil_agreement(result, work / apart)
    timing = measure_beside(open_report(result), longest_s=longest_s)
    update_baseline(open_report(result), work / "baseline.json", timing)
    return _slow_result(result, work)


def _slow_result(result: Path, work: Path) -> float:
    """Widen as many kernels as come nearest to what was promised, found by halving; return by how much it is slower."""
    few, many = 0, depthwise_layers(result) + 1
    found: dict[int, float] = {}
    while many - few > 1 and not any(abs(share - SLOWER_SHARE) <= WITHIN for share in found.values()):
        layers = (few + many) // 2
        found[layers] = _slowness(result, spoil_file(result, work / f"slow-{layers}", slower(layers)))
        print(f"{layers} wider kernels: {found[layers]:+.3f}", file=sys.stderr)
        few, many = (layers, many) if found[layers] < SLOWER_SHARE else (few, layers)
    nearest = min(found, key=lambda layers: abs(found[layers] - SLOWER_SHARE))
    (work / f"slow-{nearest}").rename(work / SLOW)
    return round(found[nearest], 4)


def _slowness(result: Path, slow: Path) -> float:
    found = benchmark([result / "int8.x86.onnx", slow / "int8.x86.onnx"], rounds=300)
    ratio = time_ratio(found.models[1].latency.samples_ms, found.models[0].latency.samples_ms)
    return float(np.expm1(ratio.log)) if ratio else 0.0


@contextmanager
def busy_process() -> Iterator[None]:
    """Let another process keep a core busy half of the time, meanwhile."""
    process = subprocess.Popen(
        [sys.executable, "-c", "import false_alarms; false_alarms.keep_busy()"], cwd=Path(__file__).parent
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()


def keep_busy() -> None:
    """Compute and sleep by turns, as long again each time."""
    drawn = random.Random(0)
    while True:
        seconds = drawn.uniform(*BURST_S)
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            pass
        time.sleep(seconds)


if __name__ == "__main__":
    main()
