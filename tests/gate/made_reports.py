"""Reports that nobody measured: one quantized file and both float files, with latencies drawn from a seed."""

import copy
import hashlib
import json

import numpy as np

from qface_toolkit.gate import OpenedReport, open_report
from qface_toolkit.report.schema import Report
from qface_toolkit.result.manifest import MANIFEST, record_of

ROUNDS = 60
OPERATORS = {"QLinearConv": 50, "QGemm": 1, "Max": 10}
SPEC = {
    "input_size": [112, 96],
    "embedding_size": 32,
    "mean": [127.5] * 3,
    "std": [128.0] * 3,
    "color": "rgb",
    "license": "unknown",
    "origin": "unknown",
}
ENVIRONMENT = {
    "seed": 0,
    "threads": 1,
    "cpu": "AMD EPYC",
    "cpu_flags": ["avx2", "avx512_vnni"],
    "cores": 2,
    "machine": "x86_64",
    "os": "Linux",
    "python": "3.11.7",
    "versions": {"onnxruntime": "1.32.0"},
}


def latency(samples_ms):
    middle, high = (float(np.percentile(samples_ms, at)) for at in (50, 90))
    return {"p50_ms": middle, "p90_ms": high, "samples_ms": list(map(float, samples_ms)), "threads": 1, "batch": 1}


def times(seed, slower=1.0, noise=0.03, rounds=ROUNDS):
    """Return what float.onnx, float.fast.onnx and int8.x86.onnx take, in turns, on a machine with moods."""
    drawn = np.random.default_rng(seed)
    mood = 1 + 0.3 * (drawn.random(rounds) < 0.4)
    medians = (8.0, 2.7, 2.0 * slower)
    return [latency(median * mood * np.exp(noise * drawn.standard_normal(rounds))) for median in medians]


def artifact(name, size_bytes, measured, **more):
    common = {"name": name, "backend": "onnx-x86", "runtime": "onnxruntime", "size_bytes": size_bytes}
    ratio = {"size_ratio": size_bytes / 4_000_000, "sha256": name.encode().hex().ljust(64, "0")[:64]}
    return common | ratio | {"latency": measured, "quantized": False} | more


def values(seed=0, slower=1.0, noise=0.03, rounds=ROUNDS):
    plain, fast, int8 = times(seed, slower, noise, rounds)
    agreement = {"cosine_mean": 0.9954, "cosine_p1": 0.9887, "cosine_min": 0.98, "images": 256, "what": "drawings"}
    layers = {"convolutions": 50, "integer_convolutions": 50, "linear_layers": 1, "integer_linear_layers": 1}
    operators = {"operators": dict(OPERATORS), "integer_share": 1.0}
    quantized = {"quantized": True, "agreement": agreement, **operators, **layers}
    figures = {"pair_accuracy": 0.985, "pair_accuracy_std": 0.004, "tar": {"1e-3": 0.95}, "pairs": 6000}
    return copy.deepcopy(
        {
            "schema_version": 2,
            "source": {
                "name": "tiny",
                "architecture": "mobilefacenet",
                "sha256": "a" * 64,
                "spec": SPEC,
                "parameters": 9,
            },
            "recipe": {"name": "int8", "values": {"version": 1}},
            "seed": 0,
            "environment": ENVIRONMENT,
            "calibration": {
                "set": "drawings",
                "kind": "procedural",
                "parameters": {},
                "seed": 0,
                "count": 512,
                "sha256": "b" * 64,
                "contains_no_real_face_data": True,
            },
            "float_latency": {"onnxruntime": plain},
            "artifacts": [
                artifact("float.onnx", 4_000_000, plain),
                artifact("float.fast.onnx", 4_010_000, fast),
                artifact("int8.x86.onnx", 1_100_000, int8, **quantized),
            ],
            "verification": {"protocol": "drawings", "float_model": figures, "artifacts": {"int8.x86.onnx": figures}},
            "steps": [],
            "peak_memory_bytes": 1,
            "commands": ["qface compress secret/place"],
        }
    )


def whole_result(folder, seed=0):
    """Write a folder whose files, report and manifest fit each other, and return it as a check opens it."""
    found = values(seed)
    for one in found["artifacts"]:
        data = one["name"].encode()
        (folder / one["name"]).write_bytes(data)
        one |= {"size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    write(found, folder / "report.json")
    (folder / "golden.npz").write_bytes(b"golden")
    list_files(folder)
    return open_report(folder)


def list_files(folder):
    """Write the manifest that a folder's files have now."""
    files = {path.name: record_of(path).model_dump() for path in folder.iterdir() if path.name != MANIFEST}
    write({"version": 1, "made_by": "qface_toolkit", "files": files}, folder / MANIFEST)


def judged(found, path=None, evaluation=None):
    return OpenedReport(Report.model_validate_json(json.dumps(found), strict=True), path, evaluation)


def write(found, path):
    path.write_text(json.dumps(found))
    return path
