"""``edgeq deploy`` on every board, from nothing: what is sent, what runs, what the report says.

The wheels are fetched once for all boards. The machine of a board is ended when its tests are done.
"""

import json
import os
from pathlib import Path

import pytest

from tests.device.choosing import some
from tests.device.someone import someone

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "examples" / "digits" / "digits_cnn.h5"
SHARED = os.environ.get("EDGEQ_SHARED_DATA", "")
QUICK = ("--runs", "12", "--duration", "0")
CPUS = {
    "pi4": ("aarch64", "Cortex-A72", False),
    "pi5-trixie": ("aarch64", "Cortex-A76", True),
    "jetson-orin-nano": ("aarch64", "Cortex-A78AE", True),
    "pi3-32bit": ("armv7l", "Cortex-A53", False),
    "pi5": ("aarch64", "Cortex-A76", True),
    "pi4-bullseye": ("aarch64", "Cortex-A72", False),
    "pi4-ina226": ("aarch64", "Cortex-A72", False),
    "pi-zero2w": ("aarch64", "Cortex-A53", False),
}
SHORT = ("pi4", "jetson-orin-nano", "pi3-32bit")
PYTHONS = {"pi5-trixie": "3.13", "pi4-bullseye": "3.9"}
RUNTIMES = {"pi3-32bit": "tflite-runtime"}
METERS = {"pi5": "pmic", "pi5-trixie": "pmic", "jetson-orin-nano": "VDD_IN", "pi4-ina226": "ina226"}


@pytest.fixture(scope="module", params=some(CPUS, *SHORT))
def board(request, module_machines):
    machine = module_machines.up(request.param)
    yield machine
    machine.down()


@pytest.fixture(scope="module")
def user(board, tmp_path_factory):
    person = someone(tmp_path_factory.mktemp(board.board))
    added = person.add(board, "bench", board.profile)
    assert added.returncode == 0, added.stderr
    return person


@pytest.fixture(scope="module")
def first(user):
    """The report of the first deploy, on a machine that has a bare Python."""
    return deploy(user, DIGITS)


def deploy(user, *words, fails=0):
    done = user.run("deploy", "--device", "bench", "--json", "-", *words, *QUICK)
    assert done.returncode == fails, done.stderr
    return json.loads(done.stdout)


def current(board, model="digits_cnn"):
    return board.ssh(f"readlink .edgeq/models/{model}/current").stdout.strip().rpartition("/")[2]


def test_a_bare_machine_gets_its_runtime_and_the_release_is_active(board, first):
    served = board.ssh("sha256sum .edgeq/models/digits_cnn/current/model.tflite").stdout
    assert served.split()[:1] == [first["artifact"]["sha256"]]
    assert first["transfer"]["bytes_sent"] == first["transfer"]["bytes_total"] > 1 << 20
    assert first["latency"]["runs"] == 12
    failed = [gate["name"] for gate in first["gates"] if not gate["passed"]]
    assert failed == []


def test_the_report_says_which_machine_it_was_and_what_ran_there(board, first):
    architecture, cpu, dot_product = CPUS[board.board]
    shown = json.dumps(first["device"])
    assert architecture in shown
    assert cpu in shown
    assert board.ssh("tr -d '\\0' < /proc/device-tree/model").stdout.strip() in shown
    flags = board.ssh("grep -m1 Features /proc/cpuinfo").stdout.split()
    assert ("asimddp" in flags) is dot_product
    assert board.ssh("python3 -V").stdout.split()[1].startswith(PYTHONS.get(board.board, "3.11"))
    if board.board in RUNTIMES:
        assert first["runtime"]["name"] == RUNTIMES[board.board]
    assert first["thermal"]["start_c"] > 20


def test_int8_answers_are_the_hosts_but_for_a_step_here_and_there(first):
    assert first["parity"]["samples"] == 8
    assert first["parity"]["max_abs_diff"] <= 2 / 256  # two steps of the int8 softmax


def test_power_is_known_where_the_board_has_a_meter_and_only_there(board, first):
    if board.board in METERS:
        # A few milliseconds of runs hold no ten readings; the idle seconds before and after do.
        assert first["power"]["idle_w"] > 0
        assert "readings" in first["unavailable"]["power.mean_w"]
        assert METERS[board.board].lower() in json.dumps(first["power"]).lower()
    else:
        assert first["power"] is None or first["power"]["mean_w"] is None
        assert any("power" in field for field in first["unavailable"])


@pytest.mark.parametrize("board", ["pi4"], indirect=True)
@pytest.mark.usefixtures("first")
def test_a_second_deploy_sends_nothing_and_rollback_needs_a_second_release(user, board):
    before = current(board)
    assert deploy(user, DIGITS)["transfer"]["bytes_sent"] == 0
    assert current(board) == before
    assert user.run("rollback", "--device", "bench").returncode == 1
    deploy(user, DIGITS, "--precision", "fp16")
    assert current(board) not in ("", before)
    done = user.run("rollback", "--device", "bench")
    assert done.returncode == 0, done.stderr
    assert current(board) == before


@pytest.mark.usefixtures("first")
def test_the_doctor_finds_the_board_ready(user):
    done = user.run("doctor", "bench", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [one for one in json.loads(done.stdout)["findings"] if one["level"] == "lack"] == []


@pytest.mark.parametrize("board", ["pi3-32bit"], indirect=True)
def test_onnx_is_refused_with_the_mend_where_there_is_no_wheel(user):
    done = user.run("deploy", "--device", "bench", DIGITS, "--format", "onnx", *QUICK)
    assert done.returncode == 1
    assert "no onnxruntime for Python 3.11 on armv7l" in done.stderr
    assert "--format tflite" in done.stderr


@pytest.mark.long
@pytest.mark.parametrize("board", ["jetson-orin-nano"], indirect=True)
def test_onnx_runs_where_there_is_a_wheel(user):
    report = deploy(user, DIGITS, "--format", "onnx")
    assert report["runtime"]["name"] == "ONNX Runtime"
    assert report["parity"]["max_abs_diff"] <= 2 / 256


@pytest.mark.long
@pytest.mark.parametrize("board", ["pi3-32bit"], indirect=True)
@pytest.mark.usefixtures("first")
def test_a_kernel_that_is_wrong_is_caught(user, board):
    """tflite-runtime 2.14 reckons today's dynamic-range files wrongly, here and on x86-64."""
    before = current(board)
    report = deploy(user, DIGITS, "--precision", "int8-dynamic", fails=3)
    (gate,) = [gate for gate in report["gates"] if gate["name"] == "parity"]
    assert not gate["passed"]
    assert current(board) == before


@pytest.mark.usefixtures("first")
@pytest.mark.skipif(not SHARED, reason="EDGEQ_SHARED_DATA names no folder with larger models")
@pytest.mark.parametrize(
    ("model", "data"),
    [
        ("resnet8_cifar10.h5", "cifar10/calibration"),
        ("kws_saved_model", "kws01/calibration.npz"),
    ],
)
def test_larger_models_pass_the_parity_gate(user, model, data):
    shared = Path(SHARED)
    report = deploy(
        user, shared / "models" / model, "--calibration", shared / "data" / data,
        "--min-agreement", "0.5",
    )  # fmt: skip
    assert [gate["name"] for gate in report["gates"] if not gate["passed"]] == []
