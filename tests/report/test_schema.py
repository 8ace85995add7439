"""report.json: what is written is read again, and what is not to be trusted is refused."""

import json

import numpy as np
import pytest

from qface_toolkit.errors import ArtifactError
from qface_toolkit.report.schema import (
    AgreementFigures,
    CosineHistogram,
    LatencyFigures,
    VerificationFigures,
    read_report,
    write_report,
)
from qface_toolkit.runtimes.latency import Latency
from qface_toolkit.scoring.agreement import Agreement
from qface_toolkit.scoring.identities import Verification


@pytest.fixture
def file(tmp_path):
    return tmp_path / "report.json"


def written(file, values):
    file.write_text(json.dumps(values))
    return file


def test_written_report_is_read_again(report, file):
    write_report(report, file)
    assert read_report(file) == report
    assert json.loads(file.read_text())["schema_version"] == 2


def test_reports_of_the_first_version_are_read_without_what_came_later(values, make, file):
    old = values | {"schema_version": 1}
    found = read_report(written(file, old))
    assert found == make(values)
    assert (found.schema_version, found.artifacts[0].cost) == (2, None)


@pytest.mark.parametrize("version", [3, 0, -1, "1", "2", None, True, 2.0, 10**30])
def test_other_versions_are_refused_by_name(values, file, version):
    values["schema_version"] = version
    with pytest.raises(ArtifactError, match=f"schema version {version!r}; versions 1 and 2 are known"):
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
    with pytest.raises(ArtifactError, match="not JSON|is empty"):
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


@pytest.mark.parametrize("cosines", [[0.9, 0.95, 1.0], [1.0], [-1.0, 0.25]])
def test_histogram_holds_every_image(cosines):
    found = CosineHistogram.of(np.array(cosines))
    assert sum(found.counts) == len(cosines)
    assert found.edges[0] == pytest.approx(min(cosines), abs=2e-6)
    assert found.edges[-1] == 1


@pytest.mark.parametrize(
    ("edges", "counts", "said"),
    [
        ([0.9, 1.0], [255], "as many images"),
        ([0.9, 0.9, 1.0], [255, 1], "edges must rise"),
        ([0.9, 1.0], [255, 1], "edges must rise"),
        ([1.0], [], "edges must rise"),
        ([0.9, 1.1], [256], "less than or equal to 1"),
    ],
)
def test_histograms_that_cannot_be_are_refused(values, file, edges, counts, said):
    values["artifacts"][1]["agreement"]["histogram"] = {"edges": edges, "counts": counts}
    with pytest.raises(ArtifactError, match=said):
        read_report(written(file, values))


def test_every_byte_of_a_file_is_somewhere(values, file):
    layers = [{"name": "conv_1", "size_bytes": 1_000_000, "time_ms": 1.5, "operators": {"QLinearConv": 1}}]
    values["artifacts"][1]["cost"] = {"layers": layers, "kinds": [], "other_bytes": 100_000}
    cost = read_report(written(file, values)).artifacts[1].cost
    assert (cost.size_bytes, cost.time_ms) == (1_100_000, 1.5)
    values["artifacts"][1]["cost"]["other_bytes"] = 99_999
    with pytest.raises(ArtifactError, match="not those of the file"):
        read_report(written(file, values))
