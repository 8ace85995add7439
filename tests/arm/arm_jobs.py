"""The files that are run on aarch64, each with what it must give there: written here, by the simulation alone.

A job is a folder: images.npy, ONNX files, and beside each file its outputs, as NAME.npz. All are run by one program
a CPU, because Python takes seconds to start under an emulator.
"""

import os
from dataclasses import replace

import numpy as np
import onnx
import pytest
from gated_networks import GATED_NETWORKS, NORMALISED_NETWORKS
from grouped_networks import IN_THE_LANE, lane_model
from helpers import SMALL_SETS, measure_quickly
from odd_networks import ISLAND_NETWORKS, ODD_NETWORKS
from quantized import SMALL_NETWORKS, calibrated, run, small_model, small_network, smooth_images, trained
from token_networks import TOKEN_NETWORKS

from qface_toolkit import pipeline
from qface_toolkit.backends import BACKENDS
from qface_toolkit.backends._float_files import export_float_fast
from qface_toolkit.backends.onnx_qdq._codes import with_outputs
from qface_toolkit.canonical.canonicalise import canonicalise
from qface_toolkit.integer.making import program_of
from qface_toolkit.integer.program import Float, Normalize
from qface_toolkit.integer.simulate import Simulator
from qface_toolkit.result.finished import open_result

ALL = bool(os.environ.get("QFACE_ARM_ALL"))
"""Asks for every network of the tests and more images of each."""

IMAGES = 8 if ALL else 2

ISLANDS = TOKEN_NETWORKS | ISLAND_NETWORKS
ODD = ISLANDS | (GATED_NETWORKS | NORMALISED_NETWORKS | ODD_NETWORKS if ALL else {})
"""Networks of 16x16 pixels, with ISLANDS computing some of it in float."""

DEMO = "demo"

NETWORKS = (DEMO, *SMALL_NETWORKS, *ODD, *IN_THE_LANE)

FILES = {"int8.arm.onnx": "onnx-arm", "int8.x86.onnx": "onnx-x86", "packed.arm.onnx": "onnx-packed-arm"}
"""The int8 files and the backends that write them."""

LOOKED_INTO = ("int8.arm.onnx", "int8.x86.onnx") if ALL else ("int8.arm.onnx",)
"""The files of which a copy returns all its codes, too."""

FAST = "float.fast.onnx"

IN_FLOAT = "in-float"


def write_jobs(folder, demo):
    """Write a job for each of NETWORKS, one of them the result of compressing the demo model."""
    for name in NETWORKS[1:]:
        network, size = small_network(name) if name in SMALL_NETWORKS else (None, (16, 16))
        if name in IN_THE_LANE:
            model, network = lane_model(name)
        else:
            network = network or trained(ODD[name])
            model = small_model(name) if name in SMALL_NETWORKS else calibrated(network, size)
        images = smooth_images(size, IMAGES, seed=1)
        fast = export_float_fast(canonicalise(network, size), model.spec, {})
        write_job(folder / name, model, images, (fast, run(network, images)))
    result = open_result(demo)
    golden = {name: result.golden()[name][:IMAGES] for name in ("inputs", "float")}
    write_job(folder / DEMO, result.model(), golden["inputs"], ((demo / FAST).read_bytes(), golden["float"]))


def compress_demo(folder):
    """Write the result of compressing the demo model, measured on few images: all files that ARM is meant to run."""
    with pytest.MonkeyPatch.context() as patch:
        measure_quickly(patch)
        job = pipeline.plan_job(
            "demo", recipe="int8-fast", sets=SMALL_SETS, backends=(*FILES.values(), "torch-qnnpack")
        )
        # It is about numbers, and not about how many people they tell apart.
        pipeline.run_job(replace(job, verify=False), folder / "out")


def write_job(folder, model, images, fast):
    """Write the files of a model, those that return their codes, and the float file with its embeddings.

    IN_FLOAT beside them says that some of it computes in float, which no two processors do to the last bit.
    """
    folder.mkdir(parents=True)
    np.save(folder / "images.npy", images)
    _write(folder, FAST, fast[0], embedding=fast[1])
    for file, backend in FILES.items():
        entry = BACKENDS.get(backend)
        program = program_of(model, entry.target.on("arm"))
        if any(isinstance(one, Float | Normalize) for one in program.operations):
            (folder / IN_FLOAT).touch()
        simulator = Simulator(program)
        embedding, content = simulator.embed(images), entry.lower(model, {})
        _write(folder, file, content, embedding=embedding)
        if file in LOOKED_INTO:
            codes = _codes(simulator, images, entry.printed(model).codes, entry.code_type)
            copy = with_outputs(onnx.load_from_string(content), {name: name for name in codes}, entry.code_type)
            _write(folder, f"codes.{file}", copy.SerializeToString(), embedding=embedding, **codes)


def _codes(simulator, images, names, code_type):
    """Return the codes of all tensors by the names that they have in a file, of the type that they have there."""
    parts = list(simulator.codes(images))
    whole = {names[name]: np.concatenate([part[name] for part in parts]) for name in parts[0] if name in names}
    return {name: (codes.astype(np.int16) + code_type.offset).astype(code_type.dtype) for name, codes in whole.items()}


def _write(folder, file, content, **outputs):
    (folder / file).write_bytes(content)
    np.savez(folder / f"{file}.npz", **outputs)
