"""All the sets that a licensee keeps in one folder, so that a published claim is checked by one command."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qface_toolkit.errors import QFaceError, RanksError
from qface_toolkit.evaluation import find_suite, published_rows
from qface_toolkit.models import FloatModel
from qface_toolkit.pipeline._evaluate import EvaluationSet, evaluate
from qface_toolkit.ranks import told_ranks
from qface_toolkit.report.markdown import suite_markdown
from qface_toolkit.report.suite import PublishedFigures, Suite
from qface_toolkit.result.writing import write_together
from qface_toolkit.untrusted.json import json_bytes

JSON, MARKDOWN = "suite.json", "suite.md"
_KEPT = ("flip", "folds", "draws")


def evaluate_suite(
    model: str | Path | FloatModel,
    folder: str | Path,
    habits: Mapping[str, Any],
    **options: Any,  # noqa: ANN401 - those of `evaluate`
) -> Suite:
    """Judge a model on every set of the papers that the folder holds; see `evaluate` for the options.

    `habits` are values for `EvaluationSet`, as far as they say how images are embedded and people drawn. A set that
    cannot be used costs the figures of no other one.

    Raises:
        QFaceError: if there is no set to judge it on, or each of them has a mistake.
    """
    if told_ranks().size > 1:
        # A set that one process cannot read would leave the others waiting.
        raise RanksError(
            "a suite is judged by one process", fix="give one set at a time to several, by --pairs or --ijb"
        )
    found = find_suite(Path(folder))
    kept = {key: value for key, value in habits.items() if key in _KEPT}
    wanted = {key: EvaluationSet(pairs=path, **kept) for key, path in found.pairs.items()}
    wanted |= {key: EvaluationSet(ijb=path, **kept) for key, path in found.ijb.items()}
    evaluations, failed = {}, {}
    for key, evaluation_set in wanted.items():
        try:
            evaluations[key] = evaluate(model, evaluation_set, **options)
        except QFaceError as error:
            failed[key] = error
    if not evaluations:
        raise next(iter(failed.values()))
    return Suite(
        evaluations=evaluations,
        missing=dict(found.missing),
        failed={key: error.what for key, error in failed.items()},
        published=tuple(PublishedFigures.model_validate(row, from_attributes=True) for row in published_rows()),
    )


def write_suite(suite: Suite, folder: Path, *, force: bool = False) -> tuple[Path, ...]:
    """Write the figures and the page of a suite into a folder, which is made if it is missing.

    Raises:
        ArtifactError: if there is a suite's result already, or the disk refuses.
    """
    contents = {JSON: json_bytes(suite.model_dump(mode="json")), MARKDOWN: suite_markdown(suite).encode()}
    return write_together(contents, folder, force=force)
