"""A model as .onnx on a device: the same flow, another runtime, and no silent way to the CPU."""

import json

import jsonschema
import pytest

from tests.fakes import tiny_onnx
from tests.flow.conftest import DIGITS, QUICK

CUDA = """\
description = "this machine, with a GPU that it has not"
[conversion]
format = "onnx"
precision = "float32"
[runtime]
providers = ["TensorRT", "CUDA", "CPU"]
[access]
transport = "local"
[telemetry]
sample_hz = 0
"""


@pytest.fixture
def net(user):
    path = user.home / "net.onnx"
    path.write_bytes(tiny_onnx.conv_net())
    return path


def current(home, model):
    return home / ".edgeq" / "models" / model / "current"


@pytest.mark.timeout(600)  # TensorFlow makes both pivots
def test_one_model_runs_as_tflite_and_as_onnx_on_the_same_device(user, server, device):
    words = ("deploy", "--device", device, DIGITS, *QUICK)
    reports = {
        format_: user.report(*words, "--format", format_, "--name", f"digits-{format_}")
        for format_ in ("tflite", "onnx")
    }
    schema = json.loads(user.run("schema", "report").stdout)
    for format_, runtime in (("tflite", "LiteRT"), ("onnx", "ONNX Runtime")):
        report = reports[format_]
        jsonschema.validate(report, schema)
        assert (report["artifact"]["format"], report["runtime"]["name"]) == (format_, runtime)
        assert report["artifact"]["precision"] == "int8"
        assert report["model"]["source"] == "keras-h5"
        assert report["quality"]["samples"] == 540
        assert report["parity"]["identical"] is True
        assert report["latency"]["runs"] >= 30
        assert all(gate["passed"] for gate in report["gates"])
        name = f"digits-{format_}"
        assert (current(server.home, name) / f"model.{format_}").is_file()
    accuracy = {one["quality"]["float_accuracy"] for one in reports.values()}
    assert len(accuracy) == 1
    assert reports["onnx"]["runtime"]["delegate"] == "CPU"


def test_a_second_deploy_of_an_onnx_sends_nothing(user, server, device, net):
    words = ("deploy", "--device", device, net, "--format", "onnx", "--precision", "float32")
    first, second = (user.report(*words, *QUICK) for _ in range(2))
    assert (current(server.home, "net") / "model.onnx").is_file()
    assert first["transfer"]["bytes_sent"] == first["transfer"]["bytes_total"] > 0
    assert second["transfer"]["bytes_sent"] == 0
    assert second["artifact"] == first["artifact"]


def test_an_onnx_bundle_can_be_deployed(user, server, device, net):
    path = user.home / "net.edgeq"
    words = (net, "--format", "onnx", "--precision", "float32", "-o", path)
    done = user.run("convert", "--device", "linux", *words)
    assert done.returncode == 0, done.stderr
    report = user.report("deploy", "--device", device, path, *QUICK)
    assert report["runtime"]["name"] == "ONNX Runtime"
    assert (current(server.home, "net") / "model.onnx").is_file()


def test_a_provider_that_is_not_there_makes_the_verdict_invalid_and_the_run_goes_on(user, net):
    folder = user.home / "device_profiles"
    folder.mkdir()
    (folder / "cuda.toml").write_text(CUDA)
    report = user.report("deploy", "--device", "cuda", net, *QUICK)
    assert report["latency"]["runs"] >= 30
    assert report["runtime"]["delegate"] == "CPU"
    verdict = report["verdict"]
    assert verdict["status"] == "invalid"
    fallback = [reason for reason in verdict["reasons"] if reason.startswith("fallback: ")]
    assert len(fallback) == 1
    assert fallback[0].startswith("fallback: TensorRT was asked for, CPU ran ")
    assert any("has no TensorRT, CUDA, but" in warning for warning in report["warnings"])
    assert user.run("deploy", "--device", "cuda", net, *QUICK, "--strict").returncode == 7


def test_the_profile_says_on_which_runtime_a_format_runs(user, net):
    folder = user.home / "device_profiles"
    folder.mkdir()
    (folder / "lite.toml").write_text(CUDA.replace("providers", 'kinds = ["litert"]\nproviders'))
    said = user.fails(1, "deploy", "--device", "lite", net, *QUICK)
    assert "names no runtime that runs a .onnx" in said
    assert '"onnxruntime"' in said
