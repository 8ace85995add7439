"""The end of report.html: what it was made of, with which tools, on which machine, and how to make it again."""

import yaml

from qface_toolkit.report._page import Code, Facts, Notes, Photo, Section, Table
from qface_toolkit.report.figures import clean, threads
from qface_toolkit.report.markdown import LONGEST_COMMAND, REAL_FACES, input_said, loading_code
from qface_toolkit.report.schema import CalibrationUsed, Report


def calibration(used: CalibrationUsed, sheet: Photo | None) -> Section:
    """Return the manifest of the calibration images, and some of them where everybody may see them."""
    parameters = ", ".join(f"{key} = {value}" for key, value in used.parameters.items())
    facts = Facts(
        (
            ("set", f"{clean(used.set)} ({clean(used.kind)})"),
            ("images", f"{used.count}, seed {used.seed}"),
            ("parameters", clean(parameters) or "none"),
            ("sha256 of the pixels", used.sha256),
            ("free of real face data", REAL_FACES[used.contains_no_real_face_data]),
        )
    )
    warnings = Notes([f"warning: {clean(warning)}" for warning in used.warnings])
    hidden = Notes(() if sheet else ("The images are not shown here: only drawings are.",))
    return Section("calibration", "Calibration images", blocks=(facts, warnings, sheet or hidden))


def loading(report: Report) -> Section:
    """Return how to run each file."""
    codes = [Code(clean(one.name), "\n".join(loading_code(one, report))) for one in report.artifacts]
    return Section("loading", "How to load each file", (input_said(report),), codes)


def provenance(report: Report) -> Section:
    """Return where the model comes from, the recipe, the machine and the files."""
    files = [[clean(one.name), one.sha256, str(one.size_bytes)] for one in report.artifacts]
    steps = [[clean(step.name), f"{step.seconds:.1f}"] for step in report.steps]
    total = ["in all", f"{sum(step.seconds for step in report.steps):.1f}"]
    recipe = yaml.safe_dump(report.recipe.values, sort_keys=False)
    parts = (
        Section("source", "The model", blocks=(_source(report),)),
        Section("files", "The files", blocks=(Table("Files and their hashes", ("file", "sha256", "bytes"), files, 2),)),
        Section("environment", "The machine", blocks=(_machine(report),)),
        Section("recipe", "The recipe", blocks=(_recipe(report), Code("all its values", recipe))),
        Section("steps", "The time it took", blocks=(Table("Steps of the job", ("step", "seconds"), [*steps, total]),)),
    )
    return Section("origin", "Where this comes from", parts=parts)


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


def _machine(report: Report) -> Facts:
    machine = report.environment
    known = sorted(machine.versions.items())
    versions = ", ".join(f"{clean(name, 40)} {clean(version, 40)}" for name, version in known)
    return Facts(
        (
            ("CPU", f"{clean(machine.cpu)}, {machine.cores} cores, {clean(machine.machine)}"),
            ("flags", clean(" ".join(machine.cpu_flags)) or "none"),
            ("system", f"{clean(machine.os)}, Python {clean(machine.python)}, {threads(machine.threads)}"),
            ("versions", versions),
            ("peak memory", f"{report.peak_memory_bytes / 2**20:.0f} MiB"),
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
