"""Damaged .onnx files: each works, or is an error of one sentence; nothing crashes.

EDGEQ_MUTANTS sets how many are tried; 1000 take some two minutes.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COUNT = int(os.environ.get("EDGEQ_MUTANTS", "150"))
LONGEST = 450


def test_mutants_work_or_fail_in_one_sentence(tmp_path):
    outcomes, crashes = tried(tmp_path, COUNT)
    assert not crashes
    assert len(outcomes) == COUNT
    worked = [one for one in outcomes if not one["error"]]
    assert COUNT / 20 < len(worked) < COUNT / 2  # damage that does something, but not everything
    for one in outcomes:
        assert one["error"] in ("", "ModelError", "DataError", "GateError"), one
        if one["error"]:
            assert one["message"], one
            assert len(one["message"]) < LONGEST, one
            assert "\n" not in one["message"], one
            assert "onnxruntime_src" not in one["message"], one
            assert not one["message"].endswith("."), one


def tried(folder: Path, count: int) -> tuple[list[dict], list[str]]:
    """Outcomes, and what was said at each crash; after one a new process takes the next."""
    outcomes, crashes, number = [], [], 0
    while number < count:
        done = subprocess.run(
            [sys.executable, "-m", "tests.onnx.mutants", str(folder), str(number), str(count)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        outcomes += lines
        number += len(lines)
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:]
            crashes.append(f"mutant {number}: status {done.returncode} {last}")
            number += 1
    return outcomes, crashes
