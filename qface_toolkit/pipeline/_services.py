"""What a job offers to the methods that ask for it, each made when the first step asks."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from qface_toolkit.evidence.allocation import record_file
from qface_toolkit.methods import METHODS, FileSizes, Forms, Gift, Record, Reference, Source
from qface_toolkit.pipeline._packed_size import file_sizes
from qface_toolkit.quantize.forms import FormTables
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.recipe import Step
from qface_toolkit.result.folder import OutputFolder
from qface_toolkit.result.job import Job


class Services:
    """The services of one run."""

    def __init__(self, job: Job, original: QuantizedModel, folder: OutputFolder, tables: FormTables) -> None:
        self.job, self.original, self.folder, self.tables = job, original, folder, tables
        self.offers: Mapping[type[object], Callable[[], object]] = {
            Forms: self._forms,
            Reference: lambda: Reference(original.embed),
            Source: lambda: Source(job.model),
            FileSizes: lambda: file_sizes(job),
            Record: lambda: Record(self._keep),
        }

    def of(self, step: Step) -> tuple[object, ...]:
        """Return what a step's method asks for, as far as there is any."""
        made = (self.offers[kind]() for kind in METHODS.get(step.method).asks)
        return tuple(one for one in made if one is not None)

    def _forms(self) -> Forms:
        return Forms(self.job.recipe.target.prelu, self.tables)

    def _keep(self, gift: Gift, values: Mapping[str, Any]) -> None:
        self.folder.write(record_file(gift), json.dumps(values).encode())
