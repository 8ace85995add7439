"""Where the loss is: quickly, at the end of a job."""

from qface_toolkit.quantize.target import Target
from qface_toolkit.report.schema import SensitivityBlock
from qface_toolkit.report.sensitivity import sensitivity_figures
from qface_toolkit.result.made import Made
from qface_toolkit.sources import Crop

JOB_IMAGES, JOB_BUDGET = 8, 1.1e12
"""Images at most, and multiply-adds: a core of a small server does up to 1e11 of them in a second.

Eight images order the quantizers by what each costs alone as sixteen do: both at a rank correlation of 0.99 with 48
other images, on MobileFaceNet with PReLU."""

FEWEST_IMAGES = 4


def job_sensitivity(made: Made, target: Target, crops: Crop) -> SensitivityBlock | None:
    """Return what each quantizer of a target costs; None where nothing can be switched, or it would hold up the job."""
    found = made.sensitivity(target, crops, (min(FEWEST_IMAGES, JOB_IMAGES), JOB_IMAGES), JOB_BUDGET)
    return None if found is None else sensitivity_figures(found)
