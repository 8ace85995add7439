"""report.json: what is written is read again, and what is not to be trusted is refused."""

import json

import pytest

from qface_toolkit.errors import ArtifactError
from qface_toolkit.measure.agreement import Agreement
from qface_toolkit.measure.latency import Latency
from qface_toolkit.measure.verification import Verification
from qface_toolkit.report.schema import (
    AgreementFigures,
    LatencyFigures,
    VerificationFigures,
    read_report,
    write_report,
)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "report.json"


def written(file, values):
    file.write_text(json.dumps(values))
    return file


def test_written_report_is_read_again(report, file):
    write_report(report, file)
    assert read_report(file) == report
    assert json.loads(file.read_text())["schema_version"] == 1


@pytest.mark.parametrize("version", [2, 0, "1", None, True])
def test_other_versions_are_refused_by_name(values, file, version):
    values["schema_version"] = version
    with pytest.raises(ArtifactError, match=f"schema version {version!r}; version 1 is known"):
        read_report(written(file, values))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("seed", "0"),
        ("seed", None),
        ("unknown", 1),
        ("source.sha256", "short"),
        ("source.spec.color", "grey"),
        ("source.spec.input_size", [112]),
        ("artifacts.1.size_bytes", 0),
        ("artifacts.1.agreement.cosine_mean", 1.01),
        ("artifacts.1.times_faster", -1),
        ("artifacts.1.latency.samples_ms", [0.0]),
        ("verification.float_model.pair_accuracy", 97.3),
        ("verification.float_model.tar.1e-3", 1.5),
        ("environment.threads", 0),
    ],
)
def test_mistakes_are_named(values, file, path, value):
    *parents, last = path.split(".")
    block = values
    for part in parents:
        block = block[int(part)] if isinstance(block, list) else block[part]
    block[last] = value
    with pytest.raises(ArtifactError) as caught:
        read_report(written(file, values))
    assert path in str(caught.value)


def test_latency_is_there_or_its_absence_explained(values, file):
    values["artifacts"][1]["latency"] = None
    with pytest.raises(ArtifactError, match="latency_missing must be there"):
        read_report(written(file, values))


def test_names_are_unique_and_verification_names_artifacts(values, file):
    values["artifacts"][2]["name"] = "int8.x86.onnx"
    with pytest.raises(ArtifactError, match="same name"):
        read_report(written(file, values))
    values["artifacts"][2]["name"] = "other"
    values["verification"]["artifacts"]["stranger.onnx"] = values["verification"]["float_model"]
    with pytest.raises(ArtifactError, match=r"stranger\.onnx"):
        read_report(written(file, values))


@pytest.mark.parametrize("figure", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("place", ['"seed": 0', '"bins": 2048'], ids=["field", "inside the recipe"])
def test_figures_that_are_none_are_refused(values, file, figure, place):
    text = json.dumps(values)
    assert place in text
    file.write_text(text.replace(place, f"{place.split(':')[0]}: {figure}"))
    with pytest.raises(ArtifactError, match="is not a figure"):
        read_report(file)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.9, 0.999])
def test_truncated_reports_are_refused(values, file, share):
    text = json.dumps(values)
    file.write_text(text[: int(len(text) * share)])
    with pytest.raises(ArtifactError, match="not JSON"):
        read_report(file)


def test_huge_files_are_refused_unread(file, monkeypatch):
    monkeypatch.setattr("qface_toolkit.report.schema.LARGEST_REPORT_BYTES", 100)
    file.write_text(" " * 101)
    with pytest.raises(ArtifactError, match="larger than 100 bytes"):
        read_report(file)


def test_measurements_become_figures():
    latency = LatencyFigures.of(Latency((1.0, 2.0, 3.0)), threads=2, batch=4)
    assert (latency.p50_ms, latency.samples_ms, latency.threads, latency.batch) == (2.0, (1.0, 2.0, 3.0), 2, 4)
    agreement = AgreementFigures.of(Agreement(0.9, 0.8, 0.7, 5), what="drawings")
    assert (agreement.cosine_mean, agreement.cosine_p1, agreement.cosine_min, agreement.images) == (0.9, 0.8, 0.7, 5)
    verification = VerificationFigures.of(Verification(0.9, 0.01, {"1e-3": 0.5}, 100))
    assert verification.model_dump() == {
        "pair_accuracy": 0.9,
        "pair_accuracy_std": 0.01,
        "tar": {"1e-3": 0.5},
        "pairs": 100,
    }
