"""Candidates measured where the model is to run; the device is this machine."""

import json

import pytest


def test_the_device_decides_among_all_that_hold_the_budget(bench, sound):
    model, data = sound
    evaluation = data.write(bench.home / "evaluation.npz")
    done = bench.run(
        "deploy", model, "--device", "host", "--precision", "auto", "--on-device",
        "--max-drop", 0.05, "--runs", 30, "--duration", 0, "--json", "-",
        "--calibration", bench.home / "calibration.npz", "--evaluate", evaluation,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    search = report["search"]
    measured = {one["name"]: one for one in search["candidates"] if one["device"]}
    assert "float32" in measured
    assert sum(name.startswith("int8") and "dynamic" not in name for name in measured) == 1
    winner = measured[search["chosen"]]
    assert winner["standing"] == "chosen"
    assert winner["on_front"]
    assert report["artifact"]["precision"] == winner["recipe"]["precision"]
    assert report["artifact"]["sha256"] == winner["sha256"]
    fastest = min(one["device"]["p50_ms"] for one in measured.values())
    spread_ms = max(one["device"]["p50_spread_ms"] for one in measured.values())
    assert winner["device"]["p50_ms"] <= fastest * 1.05 + spread_ms
    assert all(one["device"]["rounds"] == 4 for one in measured.values())
    releases = (bench.home / ".edgeq" / "models" / "tiny" / "releases").iterdir()
    (release,) = [path for path in releases if path.is_dir()]
    manifest = json.loads((release / "manifest.json").read_text())
    assert manifest["search"]["chosen"] == search["chosen"]
    assert all(one["device"] is None for one in manifest["search"]["candidates"])


@pytest.mark.parametrize("words", [("--on-device",), ("--confidence", 0.9)])
def test_what_belongs_to_a_search_needs_one(bench, sound, words):
    model, _ = sound
    done = bench.run("deploy", model, "--device", "host", *words)
    assert done.returncode == 2
    assert f"{words[0]} goes with --precision auto" in done.stderr


def test_keep_float_needs_mixed(bench, sound):
    model, _ = sound
    done = bench.run(
        "deploy", model, "--device", "host", "--precision", "int8", "--keep-float", "y"
    )
    assert done.returncode == 2
    assert "--keep-float goes with --precision mixed" in done.stderr
