"""What can still be changed when a finished result is lowered again: where the new file will run."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from qface_toolkit.backends import BACKENDS, Backend
from qface_toolkit.canonical.graph import operation
from qface_toolkit.errors import RecipeError
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.plan import everywhere
from qface_toolkit.quantize.sums import settle_sums
from qface_toolkit.quantize.target import Deployment
from qface_toolkit.recipe import Export, Target
from qface_toolkit.untrusted.settings import apply_setting, worded

_KEPT = ("target.onnxruntime", "target.vnni", "target.prelu", "export.input")


class Settings(BaseModel):
    """What an artifact is lowered for, as far as it can be changed after the compression."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    target: Target
    export: Export

    @classmethod
    def of(cls, deployment: Deployment) -> dict[str, dict[str, Any]]:
        """Return, as plain values, what a model was compressed for; its forms of PReLU stay what they are."""
        target = {"vnni": deployment.vnni, "onnxruntime": deployment.onnxruntime, "prelu": "auto"}
        return {"target": target, "export": {"input": deployment.image}}

    def applied(self, model: QuantizedModel) -> QuantizedModel:
        """Return the model for these settings."""
        where = Deployment(self.target.vnni, self.target.onnxruntime, self.export.input)
        model = replace(model, deployment=where)
        if self.target.prelu == "auto":
            return model
        prelus = [node.name for node in model.network.graph.nodes if operation(node) == "prelu"]
        return settle_sums(model.with_forms(everywhere(dict.fromkeys(prelus, self.target.prelu))))

    def as_plain(self) -> dict[str, Any]:
        """Return the settings as `--set` names them, for the manifest."""
        parts = self.model_dump(mode="json")
        return {key: parts[key.split(".")[0]][key.split(".")[1]] for key in _KEPT}


def read_settings(deployment: Deployment, chosen: Backend, sets: Sequence[str]) -> Settings:
    """Return what a model was compressed for, changed by KEY=VALUE strings.

    Raises:
        RecipeError: listing every mistake.
    """
    if sets and not chosen.settings:
        what = f"nothing can be set for {chosen.artifact}"
        able = ", ".join(name for name, one in BACKENDS.entries().items() if one.settings)
        raise RecipeError(what, where=sets[0], fix=f"something can for the files of {able}")
    values, mistakes = Settings.of(deployment), []
    for text in sets:
        key = text.partition("=")[0].strip()
        known = key in chosen.settings or "=" not in text
        mistakes += apply_setting(values, text) if known else [f"--set {key}: this cannot be changed any more"]
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        mistakes += worded(error, Settings)
    if mistakes:
        what = "".join(f"\n  {mistake}" for mistake in mistakes)
        fix = f"these can be set: {', '.join(chosen.settings)}; for the rest, compress again"
        raise RecipeError(f"the settings hold mistakes:{what}", fix=fix)
    return settings
