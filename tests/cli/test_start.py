import subprocess
import sys

import pytest

HEAVY = {"tensorflow", "keras", "paramiko", "numpy", "rich", "pydantic", "ai_edge_litert"}
COMMANDS = ["deploy", "convert", "evaluate", "devices", "profiles", "runs", "rollback", "schema"]


def imported(*words):
    command = [sys.executable, "-X", "importtime", "-m", "edgeq", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return done.stdout, {line.rpartition("|")[2].strip() for line in lines}


@pytest.mark.parametrize("words", [("--help",), ("--version",)])
def test_help_imports_nothing_heavy(words):
    _, modules = imported(*words)
    assert "edgeq.cli.app" in modules
    assert not modules & HEAVY


def test_help_names_every_command():
    said, _ = imported("--help")
    assert all(f"  {command} " in said for command in COMMANDS)
