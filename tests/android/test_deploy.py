"""``edgeq`` as a user runs it, on a phone behind the stock adb.

``benchmark_model`` is the stand-in of these tests, which really runs the model with LiteRT on this
machine: the times are real, the program and the phone are not.
"""

import json
import os
import sys
from pathlib import Path

import jsonschema
import pytest

from tests.android import benchmark_model
from tests.flow.conftest import DIGITS, User, conversions  # noqa: F401 - a fixture

# Several deploys in a row take their time on a busy machine.
pytestmark = pytest.mark.timeout(900)
QUICK = ("--runs", "90", "--duration", "0")
PROFILE = """\
version = 1
description = "a phone of the tests"
[conversion]
input_dtype = "{dtype}"
output_dtype = "{dtype}"
[system]
kind = "android"
glibc_min = "none"
[runtime]
kinds = ["benchmark_model"]
benchmark_model = "benchmark_model"
{runtime}
[access]
transport = "adb"
[telemetry]
sample_hz = 20.0
[run]
processes = 1
runs = 90
seconds = 0
warmup_seconds = 0
idle_seconds = {idle}
timeout_seconds = {timeout}
"""


@pytest.fixture
def user(tmp_path, conversions, adb_environment):  # noqa: F811 - pytest's way
    home = tmp_path / "user"
    (home / "edgeq").mkdir(parents=True)
    (home / "edgeq" / "cache").symlink_to(conversions)
    program = home / "benchmark_model"
    program.write_text(f"#!{sys.executable}\n{Path(benchmark_model.__file__).read_text()}")
    program.chmod(0o755)
    return AdbUser(home, adb_environment)


class AdbUser(User):
    """Whose adb server is the tests' own."""

    def __init__(self, home, adb_environment):
        super().__init__(home)
        object.__setattr__(self, "adb_environment", adb_environment)

    def environment(self, **more):
        port = self.adb_environment["ANDROID_ADB_SERVER_PORT"]
        return super().environment(ANDROID_ADB_SERVER_PORT=port, **more)

    def profile(self, name="lab-phone", runtime="", idle=0, timeout=60, dtype="float32"):
        folder = self.home / "device_profiles"
        folder.mkdir(exist_ok=True)
        words = PROFILE.format(runtime=runtime, idle=idle, timeout=timeout, dtype=dtype)
        (folder / f"{name}.toml").write_text(words)
        program = folder / "benchmark_model"
        if not program.exists():
            program.symlink_to(self.home / "benchmark_model")
        return name

    def add(self, phone, profile, name="phone"):
        done = self.run("devices", "add", name, "--profile", profile, "--serial", phone.address)
        assert done.returncode == 0, done.stderr
        return name


def names(phone):
    found = (path for path in phone.edgeq.rglob("*") if not path.is_dir())
    return sorted(str(path.relative_to(phone.edgeq)) for path in found)


def test_a_model_is_deployed_measured_and_rolled_back(user, bench):
    phone = bench.phone()
    done = user.run(
        "devices", "add", "phone", "--profile", "android", "--serial", phone.address,
        "--benchmark-model", user.home / "benchmark_model",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "serial number LAB0001" in done.stdout
    assert phone.address in user.run("devices", "list").stdout
    assert "LAB0001" in user.run("devices", "show", "phone").stdout
    assert "ready for edgeq deploy" in user.run("devices", "doctor", "phone").stdout
    before = names(phone)
    rehearsal = user.report("deploy", "--device", "phone", DIGITS, "--dry-run")
    assert before == names(phone) == []
    assert all(one["send_bytes"] == one["size_bytes"] > 0 for one in rehearsal["sending"])

    report = user.report("deploy", "--device", "phone", DIGITS, *QUICK)
    schema = json.loads(user.run("schema", "report").stdout)
    jsonschema.validate(report, schema)
    assert report["parity"] == {"samples": 8, "max_abs_diff": 0.0, "identical": True}
    latency = report["latency"]
    assert latency["runs"] == 90
    assert latency["min_ms"] <= latency["p50_ms"] <= latency["max_ms"]
    assert latency["p90_ms"] is None
    assert "no raw samples" in report["unavailable"]["latency.p90_ms"]
    assert report["memory"]["peak_rss_mib"] > 10
    assert report["runtime"]["name"] == "benchmark_model"
    assert report["runtime"]["delegate"] == "XNNPACK"
    assert report["device"]["machine"]["os"] == "Android 14"
    assert report["transfer"]["bytes_sent"] == report["transfer"]["bytes_total"]
    for section in ("latency", "memory", "thermal"):
        for field, value in report[section].items():
            assert value is not None or report["unavailable"][f"{section}.{field}"]
    assert report["unavailable"]["power"]

    second = user.report("deploy", "--device", "phone", DIGITS, *QUICK)
    assert second["transfer"]["bytes_sent"] == 0
    user.report("deploy", "--device", "phone", DIGITS, *QUICK, "--precision", "fp16")
    done = user.run("rollback", "--device", "phone", "--json")
    assert json.loads(done.stdout)["previous"]
    assert not [name for name in names(phone) if "scratch" in name or ".stage" in name]


def test_whole_numbers_at_the_borders_are_given_as_whole_numbers(user, bench):
    user.add(bench.phone(), user.profile(dtype="int8"))
    report = user.report("deploy", "--device", "phone", DIGITS)
    assert report["parity"]["max_abs_diff"] == 0.0


def test_a_silent_fallback_is_invalid_and_strict_says_so(user, bench, tmp_path):
    user.add(bench.phone(), user.profile(runtime='delegate = "gpu"'))
    words = ("deploy", "--device", "phone", DIGITS, "--strict", "--json", tmp_path / "report.json")
    assert user.run(*words).returncode == 7
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["verdict"]["status"] == "invalid"
    assert report["verdict"]["reasons"][0].startswith(
        "fallback: gpu was asked for: it took no part"
    )


def test_an_old_build_cannot_prove_parity_and_a_p90_is_not_known(user, bench):
    user.add(bench.phone(), user.profile(runtime='flags = ["--stand_in=old"]'))
    report = user.report("deploy", "--device", "phone", DIGITS)
    assert report["parity"] is None
    assert "no --output_filepath" in report["unavailable"]["parity"]
    assert report["verdict"]["status"] == "inconclusive"
    assert any(one.startswith("parity: not compared") for one in report["verdict"]["reasons"])
    assert report["latency"]["mean_ms"] > 0
    words = ("deploy", "--device", "phone", DIGITS, "--budget", "latency_p90_ms=10000")
    assert "latency_p90_ms is not known" in user.fails(3, *words)


@pytest.mark.parametrize(
    ("way", "words"), [("crash", "benchmark_model crashed with SIGSEGV"), ("wrong", "parity is")]
)
def test_a_model_that_fails_there_does_not_become_active(user, bench, way, words):
    phone = bench.phone()
    user.add(phone, user.profile(runtime=f'flags = ["--stand_in={way}"]'))
    assert words in user.fails(3, "deploy", "--device", "phone", DIGITS)
    assert not (phone.edgeq / "models/digits_cnn/state").exists()
    assert list((phone.edgeq / "models/digits_cnn/releases").iterdir()) == []


def test_a_phone_that_vanishes_while_it_measures_is_exit_4(user, bench, tmp_path):
    (tmp_path / "data").mkdir()
    phone = bench.phone(data_size=str(tmp_path / "data"))
    user.add(phone, user.profile())
    child = user.start("deploy", "--device", "phone", DIGITS, "--duration", "60")
    with child.stderr:
        said = b""
        while b"device: measure" not in said:
            piece = os.read(child.stderr.fileno(), 4096)
            assert piece, said
            said += piece
        phone.kill()
        said += child.stderr.read()
    assert child.wait(60) == 4
    assert b"the connection to" in said
    assert b"adb devices" in said
    again = bench.phone("again", data_size=str(tmp_path / "data"), port=phone.port)
    report = user.report("deploy", "--device", "phone", DIGITS)
    assert report["latency"]["runs"] >= 90
    assert (again.edgeq / "models/digits_cnn/state").exists()


def test_a_full_phone_is_left_as_it_was(user, bench):
    small = bench.phone(data_size="60k")
    user.add(small, user.profile())
    said = user.fails(1, "deploy", "--device", "phone", DIGITS)
    assert "/data of phone is full" in said
    assert "du -h" in said
    left = names(small)  # the program, which had room, serves the next try
    assert [name.rpartition("/")[2] for name in left] == ["benchmark_model"]


def test_another_phone_in_its_place_is_refused(user, bench):
    phone = bench.phone()
    user.add(phone, user.profile())
    phone.kill()
    bench.phone("other", port=phone.port, serial="OTHER")
    said = user.fails(4, "deploy", "--device", "phone", DIGITS)
    assert "serial number is OTHER, pinned is LAB0001" in said


def test_a_battery_that_is_charged_makes_power_invalid(user, bench):
    phone = bench.phone()
    user.add(phone, user.profile())
    phone.battery(status="Charging", current_now=400000, voltage_now=4000000)
    report = user.report("deploy", "--device", "phone", DIGITS)
    assert report["power"] is None
    assert "external power (Charging)" in report["unavailable"]["power"]
    assert "invalid" in report["unavailable"]["power"]


def test_a_program_for_another_processor_is_refused_before_anything_is_sent(user, bench):
    phone = bench.phone()
    user.add(phone, user.profile())
    head = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00" + (183).to_bytes(2, "little")
    (user.home / "benchmark_model").write_bytes(head + bytes(64))
    said = user.fails(1, "deploy", "--device", "phone", DIGITS)
    assert "is built for aarch64, and phone is x86_64" in said
    assert names(phone) == []


def test_a_program_that_is_nowhere_says_where_to_get_it(user, bench):
    phone = bench.phone()
    done = user.run(
        "devices", "add", "phone", "--profile", "android", "--serial", phone.address
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = user.fails(1, "deploy", "--device", "phone", DIGITS)
    assert "phone has no /data/local/tmp/benchmark_model" in said
    assert "--benchmark-model PATH" in said


def test_a_program_that_lies_there_is_used_and_p95_keeps_a_budget_on_p90(user, bench):
    phone = bench.phone()
    there = phone.data / "local/tmp/benchmark_model"
    there.write_bytes((user.home / "benchmark_model").read_bytes())
    there.chmod(0o755)
    user.run("devices", "add", "phone", "--profile", "android", "--serial", phone.address)
    words = ("deploy", "--device", "phone", DIGITS, *QUICK, "--budget", "latency_p90_ms=10000")
    report = user.report(*words)
    assert report["benchmark"]["program"] == "/data/local/tmp/benchmark_model"
    assert len(report["benchmark"]["sha256"]) == 64
    gate = next(one for one in report["gates"] if one["name"] == "latency_p90_ms")
    assert gate["value"] == report["benchmark"]["p95_ms"]
    assert any("p95" in warning for warning in report["warnings"])


def test_words_that_do_not_go_together(user, bench):
    user.add(bench.phone(), user.profile())
    assert "needs Python" in user.fails(2, "deploy", "--device", "phone", DIGITS, "--cool-to", "40")
    assert ".tflite" in user.fails(2, "deploy", "--device", "phone", DIGITS, "--format", "onnx")
    assert "--serial SERIAL" in user.fails(2, "deploy", "--device", "android", DIGITS)
