"""Run on aarch64: every ONNX file of the jobs in one folder, its outputs written to another.

python run_jobs.py JOBS RESULTS
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime


def run_file(file, images):
    """Return the outputs of a file by their names."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = onnxruntime.InferenceSession(str(file), options)
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, {session.get_inputs()[0].name: images}), strict=True))


def main(jobs, results):
    """Run every job."""
    for job in sorted(jobs.iterdir()):
        images = np.load(job / "images.npy")
        (results / job.name).mkdir()
        for file in sorted(job.glob("*.onnx")):
            np.savez(results / job.name / f"{file.name}.npz", **run_file(file, images))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
