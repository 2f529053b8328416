import json
import math
from datetime import UTC, datetime

import jsonschema
import pytest
from pydantic import ValidationError

from edgeq import wire
from edgeq.cli import schema
from edgeq.core import report, summary
from edgeq.core.model import Artifact, Source
from edgeq.core.profile import Budgets
from edgeq.core.telemetry import Missing
from edgeq.errors import HostError
from tests.fakes import measured as device
from tests.fakes.measured import MS, Sensor, span
from tests.fakes.outcome import outcome

FIELDS = {
    "device": "name profile machine",
    "model": "name sha256 size_bytes source",
    "artifact": "format precision sha256 size_bytes compression_ratio",
    "quality": "samples sqnr_db cosine top1_agreement float_accuracy artifact_accuracy"
    " accuracy_drop",
    "parity": "samples max_abs_diff identical",
    "latency": "runs warmup_runs mean_ms std_ms min_ms max_ms p50_ms p90_ms p99_ms p50_ci_ms"
    " load_ms first_ms",
    "memory": "peak_rss_mib pss_mib baseline_rss_mib",
    "thermal": "start_c max_c throttled frequency_min_mhz frequency_max_mhz"
    " rise_c governor pinned policies occurred_before",
    "runtime": "name version threads delegate cpus cores",
    "verdict": "status reasons",
    "transfer": "bytes_sent bytes_total seconds",
    "timings_s": "load quantize verify provision push run total",
}
POWER = (
    "source coverage mean_w idle_w idle_drift_w energy_mj energy_ci_mj energy_net_mj"
    " energy_net_ci_mj measured_s windows window_s sample_hz gap_max_s uncertainty_percent"
    " clock_offset_s clock_uncertainty_s clock_drift_ppm"
)


def dumped(**changes):
    return json.loads(report.dump(summary.summarise(outcome(**changes))))


def with_power():
    moments = [i / 10 for i in range(-50, 150)]
    watts = [5.0 if 0 <= t <= 10 else 2.0 for t in moments]
    return device.samples(
        [[100 * MS] * 100],
        sensors=[Sensor(wire.Channel("power_w", "ina219", "rail", total=True), watts)],
        sensor_times_s=moments,
        spans=[span("idle_before", -5, -0.2)],
        throttle_before=(),
        throttle_after=(),
    )


def test_the_report_has_exactly_the_promised_fields():
    found = dumped()
    for section, fields in FIELDS.items():
        assert list(found[section]) == fields.split(), section
    assert list(dumped(raw=with_power())["power"]) == POWER.split()
    assert list(found["gates"][0]) == ["name", "limit", "value", "passed"]
    assert found["schema"] == "edgeq.report/1"
    assert list(found["device"]["machine"]) == [
        "model", "arch", "cpu", "cores", "memory_mib", "os", "kernel", "python",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"raw": None},
        {"quality": None, "parity": None, "runtime": None, "transfer": None, "gates": ()},
        {"raw": with_power()},
    ],
)
def test_every_report_fits_the_published_schema_and_comes_back_the_same(changes):
    found = summary.summarise(outcome(**changes))
    text = report.dump(found)
    validator = jsonschema.Draft202012Validator(schema.document(schema.Document.REPORT))
    validator.validate(json.loads(text))
    assert report.load(text, "it") == found


def test_every_null_figure_of_the_run_has_a_reason():
    for changes in ({}, {"raw": with_power()}, {"raw": None}):
        found = dumped(**changes)
        for section in ("quality", "latency", "memory", "power", "thermal"):
            if found[section] is None:
                assert found["unavailable"][section]
                continue
            for field, value in found[section].items():
                assert value is not None or found["unavailable"][f"{section}.{field}"]


def test_a_good_run_is_valid_and_passes_its_gates():
    found = dumped()
    assert found["verdict"] == {"status": "valid", "reasons": []}
    assert {gate["name"]: gate["passed"] for gate in found["gates"]} == {
        "accuracy_drop": True,
        "parity": True,
        "peak_memory_mib": True,
    }


def test_a_budget_on_a_figure_that_is_not_known_is_a_failed_gate_with_a_reason():
    found = dumped(budgets=Budgets(energy_mj=5))
    assert found["gates"][-1] == {
        "name": "energy_mj", "limit": 5.0, "value": None, "passed": False,
    }  # fmt: skip
    assert "gates.energy_mj" in found["unavailable"]
    assert found["unavailable"]["power"] == "no power meter found (hwmon INA, battery, RAPL)"


def test_a_failed_parity_makes_the_verdict_invalid():
    gates = (report.Gate(name="parity", limit=0.1, value=0.5, passed=False),)
    found = dumped(gates=gates)
    assert found["verdict"]["status"] == "invalid"


def test_without_a_run_there_is_no_figure_and_no_valid_verdict():
    found = dumped(raw=None, budgets=Budgets(latency_p90_ms=1000))
    assert found["latency"] is None
    assert found["verdict"]["status"] == "inconclusive"
    assert found["gates"][-1]["passed"] is False


def test_energy_of_a_short_run_warns_and_a_lying_channel_is_named():
    assert "energy rests on 10 s" in dumped(raw=with_power())["warnings"][0]
    liar = device.samples(
        [device.steady(100)],
        sensors=[Sensor(wire.Channel("power_w", "liar", total=True), [math.nan, math.nan])],
        sensor_times_s=[0.0, 0.1],
    )
    found = dumped(raw=liar, warnings=("first",))
    assert found["warnings"] == ["first", "liar: refused, it gave power_w = nan"]
    assert found["power"] is None


def test_the_callers_own_reason_replaces_the_general_one():
    quality = report.QualitySection(samples=5, cosine=1.0)
    missing = summary.quality_missing(["sqnr_db: equal", "accuracy: two outputs"])
    found = dumped(quality=quality, missing=missing)["unavailable"]
    assert found["quality.sqnr_db"] == "equal"
    assert found["quality.accuracy_drop"] == found["quality.float_accuracy"] == "two outputs"
    assert found["quality.top1_agreement"] == "the outputs are not the scores of classes"


def test_nan_cannot_enter_a_report():
    with pytest.raises(ValidationError):
        report.Gate(name="x", limit=1.0, value=math.nan, passed=False)


def test_sections_are_made_from_the_models_own_values(tmp_path):
    source = Source(path=tmp_path, name="m.h5", kind="keras-h5", sha256="a", size_bytes=300)
    artifact = Artifact(
        path=tmp_path, sha256="b", size_bytes=100, format="tflite", precision="int8-dynamic",
        requested="int8", inputs=(), outputs=(), calibration_sha256=None, calibration_samples=0,
    )  # fmt: skip
    assert summary.model_section(source).source == "keras-h5"
    found = summary.artifact_section(artifact, source)
    assert (found.precision, found.compression_ratio) == ("int8-dynamic", 3.0)
    assert summary.ratio(1, 0) is None


def test_a_report_that_is_none_is_an_error_with_the_field():
    with pytest.raises(HostError, match="runs/x is not a report"):
        report.load('{"schema": "edgeq.report/2"}', "runs/x")
    with pytest.raises(HostError):
        report.load("not json", "runs/x")


def test_run_ids_sort_by_time():
    early = report.run_id(datetime(2026, 11, 21, 9, 15, 0, tzinfo=UTC), b"\xff\xff")
    late = report.run_id(datetime(2026, 11, 21, 9, 15, 1, tzinfo=UTC), b"\x00\x00")
    assert early == "20261121-091500-ffff"
    assert early < late


def test_what_was_not_measured_can_be_told_by_the_caller():
    found = dumped(raw=None, missing=(Missing("latency", "dry run"),))
    assert found["unavailable"]["latency"] == "dry run"
