"""What the files of a finished folder are called, each name in one place; those of artifacts are their backends'."""

WEIGHTS, DESCRIPTION = "model.safetensors", "quantization.json"
"""The network that was compressed, and all that lowers it again."""
GOLDEN = "golden.npz"
REPORT, TEXT, CARD, SHEET = "report.json", "report.md", "model_card.md", "calibration.png"
