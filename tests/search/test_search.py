"""``--precision auto`` on real models, from the command line."""

import json
import math
import shutil

import numpy as np
import pytest

from tests.search.conftest import answers, write_sound


def by_name(search):
    return {one["name"]: one for one in search["candidates"]}


def artifacts(bench):
    """Every artifact in the cache, by its hash."""
    found = {}
    for facts in bench.cache.glob("artifact/*/facts.json"):
        found[json.loads(facts.read_bytes())["sha256"]] = facts.parent / "model.tflite"
    return found


def test_a_sound_model_becomes_int8(bench, sound):
    model, data = sound
    evaluation = data.write(bench.home / "evaluation.npz")
    manifest = bench.search(model, "--evaluate", evaluation, "--max-drop", 0.05)
    search = manifest["search"]
    assert manifest["precision"] == "int8"
    assert search["chosen"].startswith("int8")
    assert search["nearest"] is None
    assert by_name(search)["fp16"]["standing"] == "skipped"
    assert "is good enough and comes before it" in by_name(search)["fp16"]["reason"]


def test_the_table_agrees_with_litert_itself(bench, sound):
    model, data = sound
    evaluation = data.write(bench.home / "evaluation.npz")
    search = bench.search(model, "--evaluate", evaluation, "--max-drop", 0.05)["search"]
    expected = answers(model, data.inputs)
    right = expected.argmax(axis=1) == data.labels
    assert search["samples"] == len(data.labels)
    assert search["float_accuracy"] == pytest.approx(right.mean())
    files, looked = artifacts(bench), 0
    for one in search["candidates"]:
        if one["sha256"] is None:
            continue
        looked += 1
        found = answers(files[one["sha256"]], data.inputs)
        also = found.argmax(axis=1) == data.labels
        assert one["size_bytes"] == files[one["sha256"]].stat().st_size
        assert one["artifact_accuracy"] == pytest.approx(also.mean())
        assert one["accuracy_drop"] == pytest.approx(right.mean() - also.mean())
        assert one["losses"] == int((right & ~also).sum())
        assert one["gains"] == int((~right & also).sum())
        agreement = (found.argmax(axis=1) == expected.argmax(axis=1)).mean()
        assert one["top1_agreement"] == pytest.approx(agreement)
        noise = ((expected.astype(float) - found) ** 2).sum()
        sqnr_db = 10 * math.log10((expected.astype(float) ** 2).sum() / noise)
        assert one["sqnr_db"] == pytest.approx(sqnr_db, abs=1e-3)
        assert one["drop_low"] <= one["accuracy_drop"] <= one["drop_high"]
        assert one["host_p50_ms"] > 0
    assert looked >= 2


def test_what_int8_ruins_is_not_taken(bench, broken):
    model, data = broken
    evaluation = data.write(bench.home / "evaluation.npz")
    manifest = bench.search(model, "--evaluate", evaluation, "--max-drop", 0.05)
    found = by_name(manifest["search"])
    assert found["int8"]["standing"] == "fails"
    assert found["int8"]["accuracy_drop"] > 0.2
    assert manifest["search"]["chosen"] == "fp16"
    made = answers(bench.home / "out.tflite", data.inputs).argmax(axis=1)
    expected = answers(model, data.inputs).argmax(axis=1)
    assert (expected == data.labels).mean() - (made == data.labels).mean() <= 0.05


def test_a_budget_that_nothing_holds_names_the_nearest(bench, sound):
    model, data = sound
    evaluation = data.write(bench.home / "evaluation.npz")
    done = bench.run(
        *bench.words(model), "--evaluate", evaluation, "--min-sqnr", 500, "--json", "found.json"
    )
    assert done.returncode == 3, done.stderr
    assert "no recipe holds the budget" in done.stderr
    search = json.loads((bench.home / "found.json").read_text())["search"]
    assert search["chosen"] is None
    nearest = max(
        (one for one in search["candidates"] if one["sqnr_db"] is not None),
        key=lambda one: one["sqnr_db"],
    )
    assert search["nearest"] == nearest["name"]
    assert search["nearest"] in done.stderr
    assert not (bench.home / "out.tflite").exists()


def test_few_samples_give_a_warning_with_how_many_it_takes(bench, sound):
    model, data = sound
    few = type(data)(data.inputs[:60], data.labels[:60])
    manifest = bench.search(model, "--evaluate", few.write(bench.home / "few.npz"))
    assert manifest["search"]["samples_needed"] >= 268
    assert any("too few to prove the budget" in text for text in manifest["warnings"])


def test_without_labels_agreement_decides(bench, sound):
    model, _ = sound
    search = bench.search(model, "--min-agreement", 0.8)["search"]
    assert (search["max_drop"], search["min_agreement"]) == (None, 0.8)
    assert search["origin"] == "calibration"
    assert search["chosen"].startswith("int8")


def test_a_search_that_was_broken_off_goes_on_where_it_was(fresh):
    bench = fresh
    model, data = write_sound(bench)
    evaluation = data.write(bench.home / "evaluation.npz")
    words = (*bench.words(model), "--evaluate", evaluation, "--max-drop", 0.05)

    def judged():
        return list(bench.cache.glob("judged/[0-9a-f]*/entry.json"))

    for _ in range(8):
        code = bench.break_off(judged, *words)
        if code == 130:
            break
        # It was through before the signal came.
        shutil.rmtree(bench.cache)
        (bench.home / "out.tflite").unlink()
    assert code == 130
    before = {path: path.stat().st_mtime_ns for path in judged()}
    assert before
    assert not (bench.home / "out.tflite").exists()
    assert bench.run(*words).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(judged()) > len(before)


def test_without_time_nothing_is_guessed(fresh):
    bench = fresh
    model, data = write_sound(bench)
    evaluation = data.write(bench.home / "evaluation.npz")
    done = bench.run(*bench.words(model), "--evaluate", evaluation, "--search-seconds", 0)
    assert done.returncode == 3
    assert "the search's time was up before any candidate was judged" in done.stderr
    assert "--search-seconds" in done.stderr


@pytest.mark.parametrize(
    ("words", "exit_code", "said"),
    [
        (("--max-drop", 0.01), 5, "needs labelled samples"),
        (("--equalize",), 2, "--equalize does not go with --precision auto"),
        (("--precision", "int8", "--search-seconds", 5), 2, "goes with --precision auto"),
        (("--precision", "best"), 2, "known: auto, int8"),
    ],
)
def test_what_does_not_go_together_is_said(bench, sound, words, exit_code, said):
    model, _ = sound
    done = bench.run(*bench.words(model), *words)
    assert done.returncode == exit_code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_manifest_holds_the_same_search_every_time(bench, sound):
    model, data = sound
    evaluation = data.write(bench.home / "evaluation.npz")
    first = bench.search(model, "--evaluate", evaluation, "--max-drop", 0.05)
    assert bench.search(model, "--evaluate", evaluation, "--max-drop", 0.05) == first
    assert np.isfinite(first["search"]["confidence"])
