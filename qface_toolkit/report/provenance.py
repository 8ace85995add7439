"""What a result was made of, with which tools, on which machine, how its files are run, and how to make it again."""

from collections.abc import Callable, Mapping, Sequence

import yaml

from qface_toolkit.environment import Environment
from qface_toolkit.framing import CROP_SIZE
from qface_toolkit.report.figures import clean, runtime_name, threads
from qface_toolkit.report.page import Code, Facts, Notes, Photo, Section, Table
from qface_toolkit.report.schema import ArtifactFigures, CalibrationUsed, Report, SpecFacts
from qface_toolkit.runtimes import ONNX_RUNTIME, SIMULATION, TORCH

LONGEST_COMMAND = 4000
REAL_FACES = {
    True: "yes: these images are drawings",
    False: "no: these images show real faces",
    None: "unknown: the images are the user's own",
}


def calibration(used: CalibrationUsed, shown: Photo | Notes | None) -> Section:
    """Return the manifest of the calibration images, and what is shown of them."""
    parameters = ", ".join(f"{key} = {value}" for key, value in used.parameters.items())
    facts = Facts(
        (
            ("set", f"{clean(used.set)} ({clean(used.kind)})"),
            ("images", f"{used.count}, seed {used.seed}"),
            ("parameters", clean(parameters) or "none"),
            ("sha256 of the pixels", used.sha256),
            ("free of real face data", REAL_FACES[used.contains_no_real_face_data]),
            *(("warning", clean(warning)) for warning in used.warnings),
        )
    )
    return Section("calibration", "Calibration images", blocks=(facts, *([shown] if shown else [])))


def loading(report: Report) -> Section:
    """Return how to run each file."""
    codes = [Code(clean(one.name), "\n".join(loading_code(one, report))) for one in report.artifacts]
    return Section("loading", "How to load each file", (input_said(report.source.spec),), codes)


def input_said(spec: SpecFacts) -> str:
    """Return what the model takes and gives."""
    height, width = spec.input_size
    colour = "gray (ITU-R 601)" if spec.color == "gray" else f"colour order {spec.color}"
    return (
        f"Input: float32 [N, {len(spec.mean)}, {height}, {width}], {colour}, (pixel - mean) / std on pixels "
        f"0..255 with mean {_numbers(spec.mean)} and std {_numbers(spec.std)}. "
        f"{_framed(spec)}Output: float32 [N, {spec.embedding_size}]."
    )


def _framed(spec: SpecFacts) -> str:
    """Say how an aligned crop becomes the input, where it does not enter as it is."""
    whole = {
        "arcface": "scaled to the longer side",
        "facenet": "moved to where FaceNet's crop has the face",
        "dlib": "moved to where dlib's chip has the face",
        "none": "resized to it as a whole",
    }
    usual = spec.crop == "arcface" and max(spec.input_size) <= CROP_SIZE
    return "" if usual else f"The aligned crop is {whole[spec.crop]} (crop {spec.crop}). "


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:g}" for value in values)


def loading_code(artifact: ArtifactFigures, report: Report) -> list[str]:
    """Return the lines of Python that run one file."""
    known = _LOADING.get(artifact.runtime)
    name = repr(clean(artifact.name))
    return known(name, artifact, report) if known else [f"# {name} is read by {runtime_name(artifact.runtime)}"]


def _onnx_code(name: str, artifact: ArtifactFigures, report: Report) -> list[str]:
    height, width = report.source.spec.input_size
    channels = len(report.source.spec.mean)
    order = "RGB" if channels == 3 else "gray"
    asked = report.recipe.values.get("export")
    wanted = asked.get("input") if isinstance(asked, dict) else None
    pixels = wanted == "uint8" and artifact.quantized
    fed = '"image": pixels' if pixels else '"input": images'
    return [
        "import onnxruntime",
        f"session = onnxruntime.InferenceSession({name})",
        *([f"# pixels as they are: uint8 [N, {height}, {width}, {channels}], {order}"] if pixels else []),
        f'(embedding,) = session.run(["embedding"], {{{fed}}})',
    ]


def _torch_code(name: str, artifact: ArtifactFigures, report: Report) -> list[str]:
    engine = repr(clean(artifact.engine or ""))
    line = f"torch.backends.quantized.engine = {engine}  # before loading, or the numbers are wrong"
    set_engine = [line] if artifact.engine else []
    return ["import torch", *set_engine, f"embedding = torch.jit.load({name})(torch.from_numpy(images))"]


def _simulation_code(name: str, artifact: ArtifactFigures, report: Report) -> list[str]:
    return [f"# weights and what they are, for torch: qface evaluate {name} --faces DIR"]


_LOADING: Mapping[str, Callable[[str, ArtifactFigures, Report], list[str]]] = {
    ONNX_RUNTIME.name: _onnx_code,
    TORCH.name: _torch_code,
    SIMULATION.name: _simulation_code,
}
"""How a file is run, by what its report calls the runtime."""


def provenance(report: Report) -> Section:
    """Return where the model comes from, the recipe, the machine and the files."""
    steps = [[clean(step.name), f"{step.seconds:.1f}"] for step in report.steps]
    total = ["in all", f"{sum(step.seconds for step in report.steps):.1f}"]
    recipe = yaml.safe_dump(report.recipe.values, sort_keys=False)
    parts = (
        Section("source", "The model", blocks=(_source(report),)),
        files_section(report),
        Section("environment", "The machine", blocks=(machine_facts(report.environment, report.peak_memory_bytes),)),
        Section("recipe", "The recipe", blocks=(_recipe(report), Code("all its values", recipe))),
        Section("steps", "The time it took", blocks=(Table("Steps of the job", ("step", "seconds"), [*steps, total]),)),
    )
    return Section("origin", "Where this comes from", parts=parts)


def files_section(report: Report) -> Section:
    """Return the files with their hashes."""
    rows = [[clean(one.name), one.sha256, str(one.size_bytes)] for one in report.artifacts]
    return Section(
        "files", "The files", blocks=(Table("Files and their hashes", ("file", "sha256", "bytes"), rows, 2),)
    )


def _source(report: Report) -> Facts:
    source, spec = report.source, report.source.spec
    return Facts(
        (
            ("model", clean(source.name)),
            ("architecture", f"{clean(source.architecture)}, {source.parameters:,} parameters"),
            ("sha256", source.sha256),
            ("licence", clean(spec.license)),
            ("origin", clean(spec.origin)),
            *(("note", clean(note)) for note in source.notes),
        )
    )


def machine_facts(machine: Environment, peak_memory_bytes: int) -> Facts:
    """Return what a job ran on."""
    known = sorted(machine.versions.items())
    versions = ", ".join(f"{clean(name, 40)} {clean(version, 40)}" for name, version in known)
    return Facts(
        (
            ("CPU", f"{clean(machine.cpu)}, {machine.cores} cores, {clean(machine.machine)}"),
            ("flags", clean(" ".join(machine.cpu_flags)) or "none"),
            ("system", f"{clean(machine.os)}, Python {clean(machine.python)}, {threads(machine.threads)}"),
            ("versions", versions),
            ("peak memory", f"{peak_memory_bytes / 2**20:.0f} MiB"),
        )
    )


def _recipe(report: Report) -> Facts:
    chosen = [
        ("decided by the clock", f"{clean(option)} = {value}; give it in place of a time to repeat this")
        for option, value in report.recipe.choices.items()
    ]
    chosen += [("chosen among all in trace.json", clean(said)) for said in report.recipe.chosen]
    return Facts((("recipe", clean(report.recipe.name)), ("seed", str(report.seed)), *chosen))


def repetition(report: Report) -> Section:
    """Return the commands that made this result, and those that check it."""
    made = [Code(f"command {place + 1}", clean(text, LONGEST_COMMAND)) for place, text in enumerate(report.commands)]
    check = Code("is it still what it was, and does it run here", "qface verify DIR")
    return Section("again", "Make it again", ("DIR is the folder of this report.",), (*made, check))
