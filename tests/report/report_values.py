"""One whole report as plain values; with `full` it has every block: layers, islands, a budget and a histogram."""

import io
import re

import numpy as np
from PIL import Image

HOSTILE = '"><script>alert(1)</script><img src=http://a.b onerror=alert(2)>{{ 7 * 7 }}</style>\x1b[31m\u202e面$x$&amp;'
HOSTILE += "m" * 80
LAYERS = ("x", "conv_1", "same", "embedding")


def latency(median):
    return {"p50_ms": median, "p90_ms": median * 1.1, "samples_ms": [median] * 3, "threads": 1, "batch": 1}


def agreement(mean, what="drawn faces, against float.onnx"):
    return {"cosine_mean": mean, "cosine_p1": mean - 0.02, "cosine_min": mean - 0.05, "images": 256, "what": what}


def artifact(name, runtime, size_bytes, **more):
    common = {"name": name, "backend": f"{runtime}-x86", "runtime": runtime, "size_bytes": size_bytes}
    return common | {"size_ratio": size_bytes / 4_000_000, "sha256": "c" * 64, "quantized": True} | more


def pair(first, second, mean, exact=False):
    lowest = mean if exact else mean - 0.05
    return {"first": first, "second": second, "cosine_mean": mean, "cosine_min": lowest, "exact": exact}


VALUES = {
    "schema_version": 2,
    "source": {
        "name": "mobilefacenet_prelu",
        "architecture": "mobilefacenet",
        "sha256": "a" * 64,
        "spec": {
            "input_size": [112, 96],
            "embedding_size": 128,
            "mean": [127.5, 127.5, 127.5],
            "std": [58.395, 57.12, 57.375],
            "color": "bgr",
            "license": "MIT",
            "origin": "unknown",
        },
        "parameters": 993_000,
        "notes": ["dropped the classifier head"],
    },
    "recipe": {"name": "int8", "values": {"version": 1, "steps": [{"calibrate": {"bins": 2048}}]}},
    "seed": 0,
    "environment": {
        "seed": 0,
        "threads": 1,
        "cpu": "AMD EPYC",
        "cpu_flags": ["avx2", "avx512_vnni"],
        "cores": 2,
        "machine": "x86_64",
        "os": "Linux",
        "python": "3.11.7",
        "versions": {"torch": "2.13.0", "numpy": "2.4.6"},
    },
    "calibration": {
        "set": "drawings",
        "kind": "procedural",
        "parameters": {"images_per_identity": 1},
        "seed": 0,
        "count": 512,
        "sha256": "b" * 64,
        "contains_no_real_face_data": True,
        "warnings": [],
    },
    "float_latency": {"onnxruntime": latency(10.0), "torch": latency(20.0)},
    "artifacts": [
        artifact("float.onnx", "onnxruntime", 4_000_000, quantized=False, latency=latency(10.0), times_faster=1.0),
        artifact(
            "int8.x86.onnx",
            "onnxruntime",
            1_100_000,
            latency=latency(4.0),
            times_faster=2.5,
            times_faster_than_fast=1.25,
            agreement=agreement(0.9912),
            simulation_agreement=agreement(0.99999, "drawn faces, against the simulation"),
            operators={"QLinearConv": 50},
            integer_share=0.96,
            float_islands=["embedding"],
        ),
        artifact(
            "int8.qnnpack.ts",
            "torch",
            1_200_000,
            engine="qnnpack",
            latency_missing="no qnnpack here",
            agreement=agreement(0.98),
        ),
        artifact(
            "float.fast.onnx",
            "onnxruntime",
            4_100_000,
            quantized=False,
            latency=latency(5.0),
            times_faster=2.0,
            times_faster_than_fast=1.0,
        ),
    ],
    "verification": {
        "protocol": "held-out drawings, 10 folds",
        "float_model": {"pair_accuracy": 0.973, "pair_accuracy_std": 0.01, "tar": {"1e-3": 0.9}, "pairs": 6000},
        "artifacts": {
            "int8.x86.onnx": {"pair_accuracy": 0.971, "pair_accuracy_std": 0.01, "tar": {"1e-3": 0.88}, "pairs": 6000}
        },
    },
    "parity": {
        "images": 64,
        "members": ["float", "int8.x86.onnx simulated", "int8.x86.onnx", "int8.qnnpack.ts"],
        "pairs": [
            pair("float", "int8.x86.onnx simulated", 0.9912),
            pair("float", "int8.x86.onnx", 0.9912),
            pair("float", "int8.qnnpack.ts", 0.98),
            pair("int8.x86.onnx simulated", "int8.x86.onnx", 1.0, exact=True),
            pair("int8.x86.onnx simulated", "int8.qnnpack.ts", 0.97),
            pair("int8.x86.onnx", "int8.qnnpack.ts", 0.97),
        ],
        "layers": {
            "simulation": "onnx",
            "images": 8,
            "tensors": [
                {"tensor": "x", "cosine": 0.999999, "snr_db": 60.04, "drop": 0.000001},
                {"tensor": "conv_1", "cosine": 0.995, "snr_db": 20.0, "drop": 0.004999},
                {"tensor": "same", "cosine": 0.999, "snr_db": None, "drop": 0.0},
            ],
        },
        "codes": [
            {"artifact": "int8.x86.onnx", "images": 8, "tensors": 93, "differing": []},
            {
                "artifact": "int8.qnnpack.ts",
                "images": 8,
                "tensors": 97,
                "differing": [{"tensor": "pool", "codes": 2048, "differing": 503, "largest": 1}],
            },
        ],
    },
    "sensitivity": {
        "simulation": "onnx",
        "images": 16,
        "loss": 0.009,
        "activations_loss": 0.005,
        "weights_loss": 0.0042,
        "quantizers": [
            {"kind": "activation", "name": "x", "loss_alone": 0.001, "gain_left_out": 0.0},
            {"kind": "weights", "name": "conv_1", "loss_alone": 0.004, "gain_left_out": 0.0035},
            {"kind": "activation", "name": "add", "loss_alone": 0.000001, "gain_left_out": -0.0002},
            {"kind": "activation", "name": "same", "loss_alone": 0.0, "gain_left_out": 0.0},
        ],
    },
    "steps": [{"name": "calibrate", "seconds": 12.5}, {"name": "lower", "seconds": 2.5}],
    "peak_memory_bytes": 1_073_741_824,
    "commands": ["qface compress model.ckpt --out out --recipe int8"],
}


def full(values):
    """Return the plain values of a report with the blocks that came with its second version, and a budget."""
    main = values["artifacts"][1]
    layers = [
        {"name": name, "size_bytes": 1000 * place, "time_ms": 0.5 * place, "operators": {"QLinearConv": place + 1}}
        for place, name in enumerate(LAYERS)
    ]
    kinds = [{"kind": "QLinearConv", "arithmetic": "integer", "count": 50, "time_ms": 3.0, "share": 1.0}]
    main["cost"] = {"layers": layers, "kinds": kinds, "other_bytes": main["size_bytes"] - 6000}
    main["agreement"]["histogram"] = {"edges": [0.94, 0.96, 0.98, 1.0], "counts": [6, 50, 200]}
    island = {"operators": {"PRelu": 1, "Transpose": 2}, "count": 3, "share": 0.25, "reason": "PRelu has no kernel"}
    main |= {
        "islands": [island],
        "convolutions": 50,
        "integer_convolutions": 47,
        "linear_layers": 1,
        "integer_linear_layers": 1,
    }
    for one, bits, taken in zip(values["artifacts"], (32, 6.25, 8, 32), (20.5, 30.5, None, 25.5), strict=True):
        one |= {
            "nominal_bytes": int(124_000 * bits),
            "payload_bytes": one["size_bytes"] - 30_000,
            "compressed_bytes": one["size_bytes"] - 100_000,
            "weight_bits_mean": bits,
        }
        loaded = {"load_ms": taken, "load_memory_bytes": 23_456_789}
        one |= loaded if taken else {"load_missing": "not loaded there"}
    point = {"size_bytes": 1_000_000, "p50_ms": 4.0, "cosine_min": 0.9}
    values["budget"] = {
        "cosine_mean_wanted": 0.99,
        "artifact": "int8.x86.onnx",
        "layers": 51,
        "kept": ["conv_1"],
        "images": 256,
        "points": [
            point | {"layers": 0, "times_faster": 1.0, "cosine_mean": 0.98},
            point | {"layers": 1, "times_faster": 0.9, "cosine_mean": 0.9912},
        ],
    }
    values["recipe"]["choices"] = {"steps.0.iterations": 77}
    values["calibration"]["warnings"] = ["only 3 images differ"]
    return values


def hostile(values):
    """Return the same values, with the hostile text in the place of every text that may be any."""
    free = re.compile(
        r"\.(name|architecture|license|origin|cpu|os|python|what|protocol|set|kind|reason|tensor|first"
        r"|second|artifact|simulation|latency_missing|load_missing|not_compared|notes\.\d+|warnings\.\d+|commands\.\d+"
        r"|members\.\d+|cpu_flags\.\d+|kept\.\d+|float_islands\.\d+|names?|version)$"
    )
    known = re.compile(r"quantizers\.\d+\.kind$")

    def changed(node, path=""):
        if isinstance(node, dict):
            return {key: changed(value, f"{path}.{key}") for key, value in node.items()}
        if isinstance(node, list):
            return [changed(value, f"{path}.{place}") for place, value in enumerate(node)]
        return node + HOSTILE if isinstance(node, str) and free.search(path) and not known.search(path) else node

    values = changed(values)
    values["recipe"]["values"]["note"] = {HOSTILE: [HOSTILE]}
    values["calibration"]["parameters"][HOSTILE] = HOSTILE
    values["environment"]["versions"][HOSTILE] = HOSTILE
    values["verification"]["artifacts"] = {
        name + HOSTILE: figures for name, figures in values["verification"]["artifacts"].items()
    }
    values["artifacts"][1]["operators"] = {HOSTILE: 1}
    values["artifacts"][1]["cost"]["layers"][1]["operators"] = {HOSTILE: 1}
    return values


def contact_sheet(side=512):
    """Return a PNG file that is hard to compress."""
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
