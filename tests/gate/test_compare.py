"""Figure by figure: what passes, what fails, what cannot be compared, and how it is said."""

import pytest
from made_reports import OPERATORS, judged, values, whole_result

from qface_toolkit.errors import ArtifactError
from qface_toolkit.gate import Timing, Verdict, compare, read_budgets
from qface_toolkit.gate import latency as timings
from qface_toolkit.report import Evaluation

INT8 = 2
INT8_SHA = values()["artifacts"][INT8]["sha256"]


def check(change=lambda found: None, *, baseline=lambda found: None, sets=(), **how):
    now, before = values(seed=1, **how), values(seed=2)
    change(now)
    baseline(before)
    return compare(judged(now), judged(before), read_budgets(None, sets))


def outcome(verdict, figure, artifact="int8.x86.onnx"):
    (found,) = [one for one in verdict.findings if (one.artifact, one.figure) == (artifact, figure)]
    return found


def int8(found):
    return found["artifacts"][INT8]


def putting(**changes):
    """Return a change of the int8 file's figures."""
    return lambda found: int8(found).update(changes)


def agreeing(**changes):
    return lambda found: int8(found)["agreement"].update(changes)


def test_an_equal_report_passes_in_every_figure():
    verdict = check()
    assert verdict.outcome == "passed", [one.said for one in verdict.findings if one.outcome != "passed"]
    assert {one.figure for one in verdict.findings if one.artifact == "int8.x86.onnx"} == {
        "size_bytes",
        "integer_convolutions",
        "integer_linear_layers",
        "float_operators",
        "operators",
        "cosine_mean",
        "cosine_p1",
        "latency_ratio",
        "pair_accuracy",
        "tar 1e-3",
    }
    of_files = [one for one in verdict.findings if one.artifact != "all files"]
    assert all(one.measured is not None and one.allowed is not None for one in of_files)


@pytest.mark.parametrize("newer", ["change", "baseline"])
def test_figures_that_only_one_report_has_are_not_compared(newer):
    """A baseline of a time when loading was not measured stays one."""
    later = {
        "nominal_bytes": 900_000,
        "payload_bytes": 1_000_000,
        "compressed_bytes": 950_000,
        "load_ms": 30.5,
        "weight_bits_mean": 6.5,
        "load_memory_bytes": 10**7,
    }
    assert check(**{newer: putting(**later)}).findings == check().findings


LOSSES = {
    "one percent larger": (putting(size_bytes=1_111_000), "size_bytes"),
    "a convolution in float": (putting(integer_convolutions=49), "integer_convolutions"),
    "a linear layer in float": (putting(integer_linear_layers=0), "integer_linear_layers"),
    "a float operator more": (putting(operators=OPERATORS | {"PRelu": 1}, integer_share=61 / 62), "float_operators"),
    "an operator more": (putting(operators=OPERATORS | {"Max": 11}), "operators"),
    "mean cosine": (agreeing(cosine_mean=0.9934), "cosine_mean"),
    "cosine of the worst percent": (agreeing(cosine_p1=0.9867), "cosine_p1"),
    "no agreement": (putting(agreement=None), "agreement"),
    "not quantized": (putting(quantized=False), "artifact"),
}


@pytest.mark.parametrize(("change", "figure"), LOSSES.values(), ids=LOSSES)
def test_a_loss_fails(change, figure):
    verdict = check(change)
    assert (verdict.outcome, outcome(verdict, figure).outcome) == ("failed", "failed")


WITHIN = {
    "0.4 % larger": (putting(size_bytes=1_104_400), "size_bytes"),
    "exactly the budget larger": (putting(size_bytes=1_105_500), "size_bytes"),
    "mean cosine": (agreeing(cosine_mean=0.9954 - 0.0005), "cosine_mean"),
    "lowest cosine, which is not checked": (agreeing(cosine_min=0.5), "cosine_mean"),
}


@pytest.mark.parametrize(("change", "figure"), WITHIN.values(), ids=WITHIN)
def test_a_loss_within_its_budget_passes(change, figure):
    verdict = check(change)
    assert (verdict.outcome, outcome(verdict, figure).outcome) == ("passed", "passed")


GAINS = {
    "smaller": (putting(size_bytes=900_000), "size_bytes", "18.18 % less"),
    "fewer operators": (putting(operators=OPERATORS | {"Max": 5}), "operators", "Max 10 -> 5"),
    "more convolutions on integers": (
        putting(convolutions=51, integer_convolutions=51),
        "integer_convolutions",
        "1 more",
    ),
    "closer": (agreeing(cosine_mean=0.9999), "cosine_mean", "higher"),
}


@pytest.mark.parametrize(("change", "figure", "told"), GAINS.values(), ids=GAINS)
def test_a_gain_passes_and_is_named(change, figure, told):
    found = outcome(check(change), figure)
    assert (found.outcome, found.improved, told in found.said) == ("passed", True, True), found.said


def test_a_float_operator_in_the_place_of_an_integer_one_fails():
    verdict = check(putting(operators=OPERATORS | {"PRelu": 1, "Max": 9}, integer_share=60 / 61))
    assert [one.figure for one in verdict.of("failed")] == ["float_operators"]
    assert "Max 10 -> 9, PRelu 0 -> 1" in outcome(verdict, "operators").said


def test_a_budget_may_be_larger_or_off():
    assert check(putting(size_bytes=1_150_000), sets=["size_bytes_growth=0.05"]).outcome == "passed"
    assert check(putting(size_bytes=9_150_000), sets=["size_bytes_growth=null"]).outcome == "passed"
    assert check(putting(integer_convolutions=49), sets=["integer_convolutions_fewer=1"]).outcome == "passed"
    verdict = check(sets=["latency_growth=null", "accuracy_fall=null"])
    assert not {"latency_ratio", "pair_accuracy"} & {one.figure for one in verdict.findings}


def test_a_slower_file_fails_and_a_faster_one_is_better():
    found = outcome(check(slower=1.15), "latency_ratio")
    assert (found.outcome, found.change.low > 0.07) == ("failed", True)
    assert "99 % interval" in found.said
    found = outcome(check(slower=0.8), "latency_ratio")
    assert (found.outcome, found.improved) == ("passed", True)


def test_a_machine_that_is_slower_in_everything_is_no_regression():
    def slow(found):
        for latency in (found["float_latency"]["onnxruntime"], *(one["latency"] for one in found["artifacts"])):
            latency["samples_ms"] = [3 * sample for sample in latency["samples_ms"]]

    assert outcome(check(slow), "latency_ratio").outcome == "passed"


def test_noise_is_inconclusive():
    verdict = check(noise=0.8)
    assert (verdict.outcome, outcome(verdict, "latency_ratio").outcome) == ("inconclusive", "inconclusive")


OTHERS = {
    "cpu": {"cpu": "Intel Xeon"},
    "features": {"cpu_flags": ["avx2"]},
    "machine": {"machine": "aarch64"},
    "runtime": {"versions": {"onnxruntime": "1.24.1"}},
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_another_kind_of_machine_is_not_comparable_and_no_regression(other):
    verdict = check(lambda found: found["environment"].update(other), slower=3)
    found = outcome(verdict, "latency_ratio")
    assert (verdict.outcome, found.outcome) == ("passed", "not comparable")
    assert str(next(iter(other.values())))[:3].strip("['{") in found.said or "onnxruntime" in found.said


@pytest.mark.parametrize("change", [{"os": "another"}, {"python": "3.12"}, {"cores": 64}, {"seed": 3}])
def test_what_does_not_change_the_kernels_is_comparable(change):
    assert outcome(check(lambda found: found["environment"].update(change)), "latency_ratio").outcome == "passed"


def test_another_kind_of_machine_fails_in_everything_else():
    def change(found):
        found["environment"]["cpu"] = "Intel Xeon"
        int8(found)["size_bytes"] = 1_200_000

    assert [one.figure for one in check(change).of("failed")] == ["size_bytes"]


def test_a_changed_float_fast_file_is_not_what_int8_is_compared_with():
    def faster_float(found):
        found["artifacts"][1]["sha256"] = "f" * 64
        samples = found["artifacts"][1]["latency"]["samples_ms"]
        found["artifacts"][1]["latency"]["samples_ms"] = [sample / 2 for sample in samples]

    found = outcome(check(faster_float), "latency_ratio")
    assert (found.outcome, "of float.onnx" in found.said) == ("passed", True), found.said


UNUSABLE = {
    "other rounds": lambda found: int8(found)["latency"]["samples_ms"].pop(),
    "no rounds": lambda found: int8(found)["latency"]["samples_ms"].clear(),
}


@pytest.mark.parametrize("change", UNUSABLE.values(), ids=UNUSABLE)
def test_samples_that_do_not_belong_together_decide_nothing(change):
    assert outcome(check(change), "latency_ratio").outcome == "inconclusive"


def test_no_latency_was_not_looked_at_and_says_why():
    none = putting(latency=None, latency_missing="made for arm")
    verdict = check(none)
    found = outcome(verdict, "latency_ratio")
    assert (verdict.outcome, found.outcome, "made for arm" in found.said) == ("passed", "not looked at", True)
    found = outcome(check(baseline=none), "latency_ratio")
    assert (found.outcome, "the baseline has none: made for arm" in found.said) == ("not comparable", True)
    verdict = check(none, baseline=none)
    assert "latency_ratio" not in {one.figure for one in verdict.findings}
    assert ("latency of int8.x86.onnx", "the baseline has none: made for arm") in [
        (one.what, one.why) for one in verdict.unchecked
    ]
    verdict = check(lambda found: found["float_latency"].clear())
    assert outcome(verdict, "latency_ratio").outcome == "not comparable"
    verdict = check(lambda found: int8(found)["latency"].update(threads=2))
    assert outcome(verdict, "latency_ratio").outcome == "not comparable"


def without_int8(found):
    del found["artifacts"][INT8]
    found["verification"] = None


def test_a_missing_file_fails():
    verdict = check(without_int8)
    assert (verdict.failed, outcome(verdict, "artifact").outcome) == (True, "failed")
    assert "--update" in outcome(verdict, "artifact").said


def test_a_new_file_is_named_and_fails_nothing():
    verdict = check(baseline=without_int8)
    assert (verdict.outcome, outcome(verdict, "artifact").outcome) == ("passed", "not comparable")


def test_agreement_on_other_images_is_not_compared():
    assert outcome(check(agreeing(images=32, cosine_mean=0.5)), "agreement").outcome == "not comparable"


def test_counts_of_one_report_alone_are_not_compared():
    verdict = check(baseline=putting(convolutions=None, integer_convolutions=None, operators={}))
    assert outcome(verdict, "integer_convolutions").outcome == "not comparable"
    assert outcome(verdict, "operators").outcome == "not comparable"


def test_accuracy_may_fall_by_its_budget():
    def fall(by):
        return lambda found: found["verification"]["artifacts"]["int8.x86.onnx"].update(pair_accuracy=0.985 - by)

    assert outcome(check(fall(0.002)), "pair_accuracy").outcome == "passed"
    assert outcome(check(fall(0.003)), "pair_accuracy").outcome == "failed"


@pytest.mark.parametrize("change", [{"verification": None}])
def test_accuracy_on_other_images_is_not_compared(change):
    assert outcome(check(lambda found: found.update(change)), "accuracy", "verification").outcome == "not comparable"


def evaluation(rank1=0.9, sha="e", flip=False, of=INT8_SHA, command=""):
    counts = {"images": 10, "people": 2, "genuine": 5, "impostors": 20, "probes": 8}
    rates = {"tar": {"1e-3": 0.9, "1e-9": 0.1}, "thresholds": {}, "unsupported": ["1e-9"], "eer": 0, "eer_threshold": 0}
    curves = {"det": {"far": [], "frr": [], "threshold": []}, "histogram": {"edges": [], "genuine": [], "impostor": []}}
    return Evaluation.model_validate(
        {
            "model": {"name": "int8.x86.onnx", "sha256": of, "runtime": "ort", "embedding_size": 32},
            "command": command,
            "data": {"kind": "drawings", "name": "held out", "images": 10, "sha256": sha * 64},
            "flip": flip,
            "figures": {"every_pair": {**counts, **curves, "rates": rates, "balanced": rates, "rank1": rank1}},
            "environment": values()["environment"],
        }
    )


def evaluated(now, before):
    return compare(judged(values(1), evaluation=now), judged(values(2), evaluation=before), read_budgets())


def test_evaluations_beside_both_are_compared():
    verdict = evaluated(evaluation(rank1=0.89), evaluation())
    assert outcome(verdict, "rank1").outcome == "failed"
    found = [one for one in verdict.findings if one.figure == "tar 1e-3"]
    assert [one.outcome for one in found] == ["passed", "passed"]
    assert not [one for one in verdict.findings if one.figure == "tar 1e-9"]


UNLIKE = {
    "other images": (evaluation(sha="d"), evaluation(), "not comparable"),
    "mirrored too": (evaluation(flip=True), evaluation(), "not comparable"),
    "none in the report": (None, evaluation(command="qface evaluate a"), "not looked at"),
    "none in the baseline": (evaluation(), None, "not comparable"),
}


@pytest.mark.parametrize(("now", "before", "expected"), UNLIKE.values(), ids=UNLIKE)
def test_evaluations_that_are_not_alike_are_skipped_with_what_to_do(now, before, expected):
    verdict = evaluated(now, before)
    found = outcome(verdict, "accuracy", "evaluation")
    assert (verdict.outcome, found.outcome) == ("passed", expected)
    assert "--update" in found.said if before is None else "`qface evaluate RESULT --synthetic" in found.said
    assert ("made by `qface evaluate a`" in found.said) == bool(before and before.command)


def test_an_evaluation_of_another_file_fails():
    found = outcome(evaluated(evaluation(of="c" * 64), evaluation()), "accuracy", "evaluation")
    assert (found.outcome, "not of this report's int8.x86.onnx" in found.said) == ("failed", True)


def test_a_rate_that_only_one_evaluation_supports_is_skipped():
    before = evaluation()
    rates = before.figures.every_pair.rates.model_copy(update={"unsupported": ()})
    people = before.figures.every_pair.model_copy(update={"rates": rates})
    before = before.model_copy(update={"figures": before.figures.model_copy(update={"every_pair": people})})
    assert outcome(evaluated(evaluation(), before), "tar 1e-9").outcome == "not comparable"


def fewer_rates(found):
    del found["verification"]["artifacts"]["int8.x86.onnx"]["tar"]["1e-3"]


def no_file_verified(found):
    found["verification"]["artifacts"].clear()


def test_accuracy_that_only_one_report_has_is_skipped_and_not_left_out():
    assert outcome(check(fewer_rates), "tar 1e-3").outcome == "not comparable"
    assert outcome(check(baseline=fewer_rates), "tar 1e-3").outcome == "not comparable"
    assert outcome(check(no_file_verified), "accuracy").outcome == "not looked at"
    assert outcome(
        check(baseline=lambda found: found.update(verification=None)), "accuracy", "verification"
    ).outcome == ("not comparable")


SKIPS = {
    "latency_ratio in noise": lambda: (values(1, noise=0.8), values(2)),
    "latency_ratio of another CPU": lambda: (
        values(1),
        changed(lambda found: found["environment"].update(cpu="Intel Xeon")),
    ),
    "latency_ratio not measured": lambda: (changed(putting(latency=None, latency_missing="x")), values(1)),
    "agreement on other images": lambda: (changed(agreeing(images=32)), values(2)),
    "accuracy not verified": lambda: (changed(lambda found: found.update(verification=None)), values(2)),
    "artifact new": lambda: (values(1), changed(without_int8)),
    "sha256 of no file": lambda: (values(1), values(2)),
}


def changed(change):
    found = values(2)
    change(found)
    return found


@pytest.mark.parametrize("name", SKIPS)
def test_strict_fails_on_every_figure_that_was_skipped_and_else_none_does(name):
    now, before = map(judged, SKIPS[name]())
    lax, strict = (compare(now, before, read_budgets(), strict=strict) for strict in (False, True))
    assert (lax.failed, strict.failed, strict.outcome) == (False, True, "failed")
    assert lax.findings == strict.findings
    assert lax.compared + len(lax.skipped) == len(lax.findings)
    # Each of these reports has no file beside it, too: the figure alone must do.
    figure = name.split()[0]
    alone = tuple(one for one in lax.findings if one.figure == figure or one.outcome == "passed")
    assert [one.figure for one in alone if one.outcome != "passed"] == [figure]
    assert Verdict(alone, strict=True).failed


def test_strict_does_not_fail_on_what_no_check_was_asked_for(tmp_path):
    now = whole_result(tmp_path)
    verdict = compare(now, now, read_budgets(None, ["latency_growth=null"]), strict=True)
    assert (verdict.outcome, verdict.skipped) == ("passed", ())
    assert [(one.what, one.why) for one in verdict.unchecked] == [
        ("cosine_min_fall, latency_growth", "the budget is null")
    ]
    assert compare(now, now, read_budgets(), strict=True).outcome == "passed", "the baseline's own measurement"


def test_where_nothing_was_compared_the_job_stops():
    off = [f"{name}=null" for name in read_budgets().model_dump() if name != "version"]
    verdict = compare(judged(values(1)), judged(values(2)), read_budgets(None, off))
    assert (verdict.compared, verdict.outcome) == (0, "failed")


def taking_turns(found, names):
    for latency in (found["float_latency"]["onnxruntime"], *(one["latency"] for one in found["artifacts"])):
        latency["among"] = names


MEASURED = ["float.onnx", "float.fast.onnx", "int8.x86.onnx"]


def test_a_check_against_a_measured_baseline_says_to_measure():
    job, anew = [*MEASURED, "float network, traced"], MEASURED
    now, before = (changed(lambda found, names=names: taking_turns(found, names)) for names in (job, anew))
    found = outcome(compare(judged(now), judged(before), read_budgets()), "latency_ratio")
    assert (found.outcome, found.said.endswith("add --measure to this check")) == ("not looked at", True)
    assert "--update" not in found.said
    found = outcome(compare(judged(before), judged(now), read_budgets()), "latency_ratio")
    assert "make the baseline anew with --update --measure" in found.said


def test_a_baseline_of_another_model_is_refused():
    now, before = values(1), values(2)
    before["source"]["sha256"] = "d" * 64
    with pytest.raises(ArtifactError, match="another model") as found:
        compare(judged(now), judged(before), read_budgets())
    assert "--update --force" in found.value.fix


def test_another_recipe_is_noted():
    assert check(lambda found: found["recipe"].update(name="int8-fast")).notes != ()
    assert check(lambda found: found["recipe"].update(values={})).notes != ()
    assert check().notes == ()


def test_latencies_measured_anew_go_before_the_recorded_ones():
    now = judged(values(1))
    fresh = timings.recorded(judged(values(3, slower=1.3)).report)
    verdict = compare(now, judged(values(2)), read_budgets(), fresh)
    assert outcome(verdict, "latency_ratio").outcome == "failed"
    told = Timing(fresh.environment, {}, fresh.floats, {}, {"int8.x86.onnx": "not beside the report"})
    found = outcome(compare(now, judged(values(2)), read_budgets(), told), "latency_ratio")
    assert (found.outcome, "not beside the report" in found.said) == ("not looked at", True)


def in_torch(found):
    int8(found)["runtime"] = "torch"
    found["float_latency"]["torch"] = found["float_latency"]["onnxruntime"]


def test_latencies_in_torch_stay_the_recorded_ones():
    now, before = values(1, slower=1.3), values(2)
    in_torch(now)
    in_torch(before)
    fresh = timings.recorded(judged(values(3)).report)
    missing = {"int8.x86.onnx": "only ONNX files"}
    fresh = Timing(fresh.environment, {}, fresh.floats, fresh.hashes, missing, recorded=frozenset(missing))
    verdict = compare(judged(now), judged(before), read_budgets(), fresh)
    assert outcome(verdict, "latency_ratio").outcome == "failed"
    kept = fresh.put_into(judged(now).report)
    assert kept.artifacts[INT8].latency == judged(now).report.artifacts[INT8].latency
    now["environment"]["cpu"] = "another"
    dropped = fresh.put_into(judged(now).report).artifacts[INT8]
    assert (dropped.latency, dropped.latency_missing) == (None, "only ONNX files")
