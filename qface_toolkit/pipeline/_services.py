"""What a job offers to the methods that ask for it, each made when the first step asks."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from qface_toolkit.backends import BACKENDS
from qface_toolkit.datasets import MemoryData
from qface_toolkit.evidence.allocation import record_file
from qface_toolkit.methods import METHODS, Crops, FileSizes, Foreseen, Forms, Gift, Record, Reference, Shelf, Source
from qface_toolkit.pipeline._packed_size import file_sizes
from qface_toolkit.quantize.forms import FormTables, operator_table
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.recipe import Step
from qface_toolkit.result.folder import OutputFolder
from qface_toolkit.result.job import Job
from qface_toolkit.result.states import StepStates
from qface_toolkit.sources import Crop


class Services:
    """The services of one run."""

    def __init__(
        self, job: Job, original: QuantizedModel, folder: OutputFolder, tables: FormTables, crops: Crop
    ) -> None:
        self.job, self.original, self.folder, self.tables, self.crops = job, original, folder, tables, crops
        self.offers: Mapping[type[object], Callable[[], object]] = {
            Forms: self._forms,
            Foreseen: self._foreseen,
            Reference: lambda: Reference(original.embed, original.network),
            Crops: self._crops,
            Source: lambda: Source(job.model),
            FileSizes: lambda: file_sizes(job),
            Record: lambda: Record(self._keep),
        }

    def of(self, step: Step, number: int) -> tuple[object, ...]:
        """Return what a step's method asks for, as far as there is any; `number` counts the steps."""
        asked = METHODS.get(step.method).asks
        made = [self.offers[kind]() for kind in asked if kind is not Shelf]
        made += [Shelf(StepStates(self.folder, number))] if Shelf in asked else []
        return tuple(one for one in made if one is not None)

    def _crops(self) -> Crops:
        return Crops(MemoryData(self.crops, self.job.recipe.calibration.set))

    def _forms(self) -> Forms:
        return Forms(self.job.recipe.target.prelu, self.tables)

    def _foreseen(self) -> Foreseen | None:
        """Return the times of a network in the first backend's file, if anybody knows them."""
        backend, spec = BACKENDS.get(self.job.recipe.backends[0]), self.job.model.spec
        times = operator_table(self.tables)
        if backend.foresee(self.job.canonical, spec, times) is None:
            return None
        return Foreseen(lambda network: backend.foresee(network, spec, times) or {})

    def _keep(self, gift: Gift, values: Mapping[str, Any]) -> None:
        self.folder.write(record_file(gift), json.dumps(values).encode())
