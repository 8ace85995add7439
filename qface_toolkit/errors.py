"""Every error a user can mend, so that the command line can tell them from our own bugs.

QFaceError
├── CheckpointError        a model file that cannot be read, recognised or trusted
├── UnsupportedModel       a network that holds something no lowering knows
├── RecipeError            a recipe, calibration set or --set value with mistakes in it
├── CalibrationError       calibration images that are missing, unreadable or of the wrong size
├── ArtifactError          an output folder that cannot be written, resumed or read back
├── BackendUnavailable     a runtime or an engine that this machine does not have
├── MeasurementError       figures that cannot be computed from what was given
├── TrainingError          a training that cannot begin or go on
├── RanksError             processes of one job that do not fit together
└── UnknownName            a name that no plug-in folder knows
"""


class QFaceError(Exception):
    """Something the user can mend: what went wrong, where, and what to do next.

    `what` is one sentence; `where` a file, key or node; `fix` the next step, in the imperative.
    """

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.fix = fix

    def __str__(self) -> str:
        """Return the message as the command line prints it: one line for each part that is there."""
        lines = [plain_text(line) for line in self.what.split("\n")]
        if self.where:
            lines.append(f"  where: {plain_text(self.where)}")
        if self.fix:
            lines.append(f"  to do: {plain_text(self.fix)}")
        return "\n".join(lines)


def plain_text(text: str) -> str:
    """Return a text in which a terminal finds nothing to obey: names of files and layers are a stranger's."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


class CheckpointError(QFaceError):
    """A model file that cannot be read, recognised or trusted."""


class UnsupportedModel(QFaceError):
    """A network that holds something no lowering knows."""


class RecipeError(QFaceError):
    """A recipe, calibration set or --set value with mistakes in it."""


class CalibrationError(QFaceError):
    """Calibration images that are missing, unreadable or of the wrong size."""


class ArtifactError(QFaceError):
    """An output folder that cannot be written, resumed or read back."""


class BackendUnavailable(QFaceError):
    """A runtime or an engine that this machine does not have."""


class MeasurementError(QFaceError):
    """Figures that cannot be computed from what was given."""


class TrainingError(QFaceError):
    """A training that cannot begin or go on."""


class RanksError(QFaceError):
    """Processes of one job that do not fit together."""


class UnknownName(QFaceError):
    """A name that no plug-in folder knows."""
