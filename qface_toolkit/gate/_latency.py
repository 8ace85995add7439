"""The finding on an artifact's latency: what it is compared by, whether it can be, and what its interval says."""

from qface_toolkit.gate.timing import FAST_ARTIFACT, FLOAT_ARTIFACT, Timing, other_machine
from qface_toolkit.gate.verdict import Finding, Outcome
from qface_toolkit.measure.time_ratio import Interval, Ratio, growth, time_ratio
from qface_toolkit.report.schema import ArtifactFigures

FIGURE = "latency_ratio"


def latency_finding(artifact: ArtifactFigures, now: Timing, before: Timing, budget: float) -> Finding:
    """Return whether an artifact became slower beside the float model than a budget allows."""
    name = artifact.name
    reason = _not_comparable(artifact, now, before)
    if reason is not None:
        return Finding(name, FIGURE, "not comparable", f"latency: {reason}")
    reference = _reference(artifact, now, before)
    here, there = (_ratio(name, artifact.runtime, reference, one) for one in (now, before))
    if here is None or there is None:
        which = "this report" if here is None else "the baseline"
        said = f"latency: the samples of {which} are too few or not from the same rounds; measure with --measure"
        return Finding(name, FIGURE, "inconclusive", said)
    return _judged(name, reference or f"the float model in {artifact.runtime}", here, there, budget)


def _not_comparable(artifact: ArtifactFigures, now: Timing, before: Timing) -> str | None:
    name, runtime = artifact.name, artifact.runtime
    here, there = now.files.get(name), before.files.get(name)
    if here is None or there is None:
        side, timing = ("this report", now) if here is None else ("the baseline", before)
        return f"{side} has none: {timing.missing.get(name, 'it was not measured')}"
    if runtime not in now.floats or runtime not in before.floats:
        return f"the float model was not timed in {runtime}"
    if (here.threads, here.batch) != (there.threads, there.batch):
        return "the two were measured with other threads or batches"
    if here.among != there.among:
        return "the two took turns with other files, which changes short times: --update --measure the baseline"
    return other_machine(now.environment, before.environment, runtime, here.threads)


def _reference(artifact: ArtifactFigures, now: Timing, before: Timing) -> str | None:
    """Return the float file to compare with, or None for the float model in the artifact's runtime.

    float.fast.onnx runs the same kinds of kernels as an int8 file does, so that what disturbs one disturbs the other
    alike; as a reference it must be the same file on both sides.
    """
    both = all(FAST_ARTIFACT in one.files and FAST_ARTIFACT in one.hashes for one in (now, before))
    if artifact.runtime == "onnxruntime" and both and now.hashes[FAST_ARTIFACT] == before.hashes[FAST_ARTIFACT]:
        return FAST_ARTIFACT
    return FLOAT_ARTIFACT if artifact.runtime == "onnxruntime" else None


def _ratio(name: str, runtime: str, reference: str | None, timing: Timing) -> Ratio | None:
    float_model = timing.files.get(reference) if reference else None
    float_model = float_model or timing.floats[runtime]
    return time_ratio(timing.files[name].samples_ms, float_model.samples_ms)


def _judged(name: str, reference: str, now: Ratio, before: Ratio, budget: float) -> Finding:
    change = growth(now, before)
    outcome: Outcome = "passed" if change.high <= budget else "failed" if change.low > budget else "inconclusive"
    here, there = now.interval, before.interval
    said = (
        f"takes {here.value:.3f} of the time of {reference}, in the baseline {there.value:.3f}: "
        f"{_moved(change)}; {100 * budget:.3g} % more are allowed"
    )
    if outcome == "inconclusive":
        said += ". The machine was too busy to tell: measure again with --measure"
    return Finding(
        name,
        FIGURE,
        outcome,
        said,
        here.value,
        there.value,
        there.value * (1 + budget),
        change,
        improved=change.high < 0,
    )


def _moved(change: Interval) -> str:
    return f"{100 * change.value:+.1f} % (99 % interval {100 * change.low:+.1f} to {100 * change.high:+.1f})"
