"""Run on aarch64: every ONNX file of a folder on the arrays beside it, the outputs written to another folder.

python run_cases.py CASES RESULTS
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime


def main(cases, results):
    """Run each NAME.onnx once on NAME.npz."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    for file in sorted(cases.glob("*.onnx")):
        session = onnxruntime.InferenceSession(str(file), options)
        names = [value.name for value in session.get_outputs()]
        found = session.run(names, dict(np.load(file.with_suffix(".npz"))))
        np.savez(results / f"{file.stem}.npz", **dict(zip(names, found, strict=True)))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
