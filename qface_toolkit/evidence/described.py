"""What a job was given: the model and the recipe, as blocks of its report."""

from qface_toolkit.models import FloatModel
from qface_toolkit.report.schema import RecipeUsed, SourceModel, SpecFacts
from qface_toolkit.result.job import Job
from qface_toolkit.result.made import Made


def recipe_used(job: Job, made: Made) -> RecipeUsed:
    """Return the recipe with all its values, and what a clock or a step chose in their place."""
    values, choices = job.recipe.as_plain(), dict(made.choices)
    return RecipeUsed(name=job.recipe_name, values=values, choices=choices, chosen=made.chosen)


def source_of(model: FloatModel) -> SourceModel:
    """Return what was compressed."""
    spec = model.spec
    return SourceModel(
        name=spec.name,
        architecture=spec.name,
        sha256=model.source_sha256,
        spec=SpecFacts(
            input_size=spec.input_size,
            embedding_size=spec.embedding_size,
            mean=spec.mean,
            std=spec.std,
            color=spec.color,
            license=spec.license,
            origin=spec.origin,
            crop=spec.crop,
        ),
        parameters=sum(parameter.numel() for parameter in model.network.parameters()),
        notes=model.notes,
    )
