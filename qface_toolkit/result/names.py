"""What the files of a finished folder are called, each name in one place; those of artifacts are their backends'."""

WEIGHTS, DESCRIPTION = "model.safetensors", "quantization.json"
"""The network that was compressed, and all that lowers it again."""
GOLDEN, VERIFIER = "golden.npz", "verify.py"
"""What files must give, and the program that tells on any machine whether they do."""
REPORT, TEXT, CARD, SHEET = "report.json", "report.md", "model_card.md", "calibration.png"
TIMES = "operator_times.json"
"""What `target.lowering=measure` leaves; given as `target.lowering` it repeats the run."""
