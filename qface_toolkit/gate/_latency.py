"""The finding on an artifact's latency: what it is compared by, whether it can be, and what its interval says."""

from collections.abc import Iterable, Iterator

from qface_toolkit.gate.timing import FAST_ARTIFACT, FLOAT_ARTIFACT, Timing, other_machine
from qface_toolkit.gate.verdict import Finding, Outcome, Unchecked
from qface_toolkit.measure.time_ratio import Interval, Ratio, growth, time_ratio
from qface_toolkit.report.schema import ArtifactFigures

FIGURE = "latency_ratio"
NOT_MEASURED = "it was not measured"


def latency_finding(artifact: ArtifactFigures, now: Timing, before: Timing, budget: float) -> Finding | None:
    """Return whether an artifact became slower beside float than a budget allows, or None if it was never timed."""
    name = artifact.name
    if name not in now.files and name not in before.files:
        return None
    outcome, reason = _not_compared(artifact, now, before)
    if reason:
        return Finding(name, FIGURE, outcome, f"latency: {reason}")
    if now.hashes[name] == before.hashes[name] and now.files[name] == before.files[name]:
        return Finding(name, FIGURE, "passed", "latency: hash and samples in the report are the baseline's own")
    reference = _reference(artifact, now, before)
    here, there = (_ratio(name, artifact.runtime, reference, one) for one in (now, before))
    if here is None or there is None:
        which = "this report" if here is None else "the baseline"
        said = f"latency: the samples of {which} are too few or not from the same rounds; measure with --measure"
        return Finding(name, FIGURE, "inconclusive", said)
    return _judged(name, reference or f"the float model in {artifact.runtime}", here, there, budget)


def never_timed(now: Timing, before: Timing, names: Iterable[str]) -> Iterator[Unchecked]:
    """Return the files of these names whose latency neither report has, those of one reason together."""
    reasons: dict[str, list[str]] = {}
    for name in names:
        if name not in now.files and name not in before.files:
            reasons.setdefault(before.missing.get(name, NOT_MEASURED), []).append(name)
    for reason, found in reasons.items():
        yield Unchecked(f"latency of {', '.join(found)}", f"the baseline has none: {reason}")


def _not_compared(artifact: ArtifactFigures, now: Timing, before: Timing) -> tuple[Outcome, str]:
    """Return why two latencies are not compared, and whether they could be; the reason is empty if they are."""
    name, runtime = artifact.name, artifact.runtime
    here, there = now.files.get(name), before.files.get(name)
    if here is None:
        return "not looked at", f"this report has none: {now.missing.get(name, NOT_MEASURED)}"
    if there is None:
        return "not comparable", f"the baseline has none: {before.missing.get(name, NOT_MEASURED)}"
    if runtime not in now.floats or runtime not in before.floats:
        return "not comparable", f"the float model was not timed in {runtime}"
    if (here.threads, here.batch) != (there.threads, there.batch):
        return "not comparable", "the two were measured with other threads or batches"
    if here.among != there.among:
        return "not looked at", _other_turns(now, before)
    return "not comparable", other_machine(now.environment, before.environment, runtime, here.threads) or ""


def _other_turns(now: Timing, before: Timing) -> str:
    if before.anew and not now.anew:
        return "the baseline was made with --measure: add --measure to this check"
    return (
        "the two took turns with other files, which changes short times: make the baseline anew with "
        "--update --measure, and add --measure to this check"
    )


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
