import json
import shutil

import jsonschema
import pytest

from tests.flow.conftest import DIGITS, QUICK


def current(home, model="digits_cnn"):
    return (home / ".edgeq" / "models" / model / "current").resolve().name


def files_below(folder):
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if ".ssh" not in str(path))


def test_this_machine_runs_the_model_and_the_report_keeps_its_schema(user):
    report = user.report("deploy", "--device", "host", DIGITS, *QUICK)
    schema = json.loads(user.run("schema", "report").stdout)
    jsonschema.validate(report, schema)
    assert report["artifact"]["precision"] == "int8"
    assert report["quality"]["samples"] == 540
    assert report["quality"]["float_accuracy"] > 0.98
    assert report["parity"]["identical"] is True
    assert report["latency"]["runs"] >= 30
    assert report["latency"]["p99_ms"] is None
    assert "1000" in report["unavailable"]["latency.p99_ms"]
    assert all(gate["passed"] for gate in report["gates"])
    assert current(user.home).startswith("1-")
    shown = user.run("runs", "show", report["run_id"], "--json")
    assert json.loads(shown.stdout) == report


def test_a_second_deploy_sends_nothing_and_starts_no_tensorflow(user, device):
    first = user.report("deploy", "--device", device, DIGITS, *QUICK)
    done = user.run(
        "deploy", "--device", device, DIGITS, *QUICK, "--json", "-", PYTHONPROFILEIMPORTTIME="1"
    )
    second = json.loads(done.stdout)
    assert first["transfer"]["bytes_sent"] == first["transfer"]["bytes_total"] > 1_000_000
    assert second["transfer"]["bytes_sent"] == 0
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "edgeq.deploy" in imported
    assert not imported & {"tensorflow", "keras", "ai_edge_quantizer"}


def test_rollback_brings_the_release_before_back(user, server, device):
    user.report("deploy", "--device", device, DIGITS, *QUICK)
    first = current(server.home)
    user.report("deploy", "--device", device, DIGITS, *QUICK, "--precision", "fp16")
    second = current(server.home)
    assert first != second
    done = user.run("rollback", "--device", device)
    assert done.returncode == 0, done.stderr
    assert current(server.home) == first
    assert first in done.stdout


def test_rollback_with_nothing_to_go_back_to_says_so(user, device):
    assert "no release" in user.fails(1, "rollback", "--device", device)
    user.report("deploy", "--device", device, DIGITS, *QUICK)
    said = user.fails(1, "rollback", "--device", device)
    assert "previous" in said or "before" in said


def test_a_dry_run_changes_nothing(user, server, device):
    before = files_below(server.home)
    done = user.run("deploy", "--device", device, DIGITS, "--dry-run", "--json", "-")
    rehearsal = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert rehearsal["active"] is None
    assert all(one["send_bytes"] == one["size_bytes"] > 0 for one in rehearsal["sending"])
    assert files_below(server.home) == before


def test_a_missed_accuracy_gate_sends_nothing(user, server, device):
    before = files_below(server.home)
    said = user.fails(3, "deploy", "--device", device, DIGITS, *QUICK, "--max-drop", "0")
    assert "accuracy_drop" in said
    assert "--max-drop" in said
    assert files_below(server.home) == before


def test_a_missed_budget_leaves_the_active_release(user, server, device):
    user.report("deploy", "--device", device, DIGITS, *QUICK)
    active = current(server.home)
    words = ("deploy", "--device", device, DIGITS, *QUICK, "--precision", "fp16")
    said = user.fails(3, *words, "--budget", "latency_p90_ms=0.000001")
    assert "latency_p90_ms" in said
    assert current(server.home) == active
    releases = server.home / ".edgeq" / "models" / "digits_cnn" / "releases"
    assert [path.name for path in releases.iterdir()] == [active]
    listed = json.loads(user.run("runs", "list", "--json").stdout)
    assert listed[0]["gates"][-1]["passed"] is False


def test_strict_refuses_figures_that_are_not_valid(user):
    words = ("deploy", "--device", "host", DIGITS, "--runs", "1", "--duration", "0")
    assert user.run(*words).returncode == 0
    done = user.run(*words, "--strict")
    assert done.returncode == 7
    assert "verdict" in done.stderr


def test_without_calibration_int8_becomes_dynamic_and_says_so(user, tmp_path):
    bare = tmp_path / "bare" / "digits_cnn.h5"
    bare.parent.mkdir()
    shutil.copy(DIGITS, bare)
    report = user.report("deploy", "--device", "host", bare, *QUICK)
    assert report["artifact"]["precision"] == "int8-dynamic"
    assert any("int8-dynamic" in warning for warning in report["warnings"])
    assert any("random" in warning for warning in report["warnings"])


def test_a_bundle_is_the_same_when_built_twice_and_can_be_deployed(user, server, device, tmp_path):
    one, two = tmp_path / "one.edgeq", tmp_path / "two.edgeq"
    for path in (one, two):
        done = user.run("convert", DIGITS, "--device", "linux", "-o", path)
        assert done.returncode == 0, done.stderr
    assert one.read_bytes() == two.read_bytes()
    report = user.report("deploy", "--device", device, one, *QUICK)
    assert report["model"]["source"] == "keras-h5"
    assert current(server.home).startswith("1-")


def test_a_bundle_for_another_profile_or_a_damaged_one_is_refused(user, server, device, tmp_path):
    before = files_below(server.home)
    path = tmp_path / "pi.edgeq"
    assert user.run("convert", DIGITS, "--device", "pi4", "-o", path).returncode == 0
    assert "pi4" in user.fails(5, "deploy", "--device", device, path, *QUICK)
    path.write_bytes(path.read_bytes()[:-1000])
    assert "bundle" in user.fails(5, "deploy", "--device", device, path, *QUICK)
    assert files_below(server.home) == before


def test_a_device_that_is_not_what_its_profile_says_is_refused_before_anything_is_sent(
    user, server, add
):
    name = add(server, "board", profile="jetson-orin-nano")
    before = files_below(server.home)
    said = user.fails(1, "deploy", "--device", name, DIGITS, *QUICK)
    assert "aarch64" in said or "architecture" in said or "memory" in said
    assert "linux" in said
    assert files_below(server.home) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--budget", "latency=3"), "latency_p90_ms"),
        (("--budget", "artifact_mib=lots"), "artifact_mib"),
        (("--precision", "int9"), "int8"),
        (("--format", "coreml"), "tflite, onnx"),
        (("--name", "../up"), "--name"),
        (("--max-drop", "2"), "max-drop"),
        (("--fingerprint", "SHA256:x"), "--host"),
    ],
)
def test_wrong_words_are_a_usage_error(user, words, said):
    assert said in user.fails(2, "deploy", "--device", "host", DIGITS, *words)


def test_a_report_that_cannot_be_written_is_found_before_anything_is_done(user):
    said = user.fails(2, "deploy", "--device", "host", DIGITS, *QUICK, "--json", "/no/such/x.json")
    assert "/no/such/x.json" in said
    assert not (user.home / ".edgeq").exists()


def test_a_model_that_is_not_there_is_exit_5(user):
    assert "does not exist" in user.fails(5, "deploy", "--device", "host", "no.h5")


def test_convert_keeps_the_budget_of_size(user):
    words = ("convert", DIGITS, "--device", "linux", "--budget", "artifact_mib=0.001")
    assert "artifact_mib" in user.fails(3, *words)
    assert not list(user.home.glob("*.tflite"))


def test_convert_never_overwrites_the_model_itself(user):
    model = user.home / "own.tflite"
    words = ("convert", DIGITS, "--device", "linux", "--precision", "float32", "-o", model)
    assert user.run(*words).returncode == 0
    before = model.read_bytes()
    assert "overwritten" in user.fails(2, "convert", model, "--device", "linux")
    assert model.read_bytes() == before


def test_a_profile_in_a_devices_place_shows_the_line_to_type(user):
    said = user.fails(2, "deploy", "--device", "pi4", DIGITS)
    assert "edgeq devices add pi4 --profile pi4 --host" in said
