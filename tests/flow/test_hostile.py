import json
import os
import shutil
import signal
import time

import h5py
import pytest

from tests.flow.conftest import DIGITS, QUICK
from tests.flow.test_deploy import current, files_below
from tests.servers import sshd
from tests.servers.proxy import Fault
from tests.servers.proxy import running as running_proxy

NAMES = [
    "$(touch pwned)",
    "-oProxyCommand=x",
    "new\nline",
    'it\'s "quoted"',
    "zürich-模型",
    "a;b|c&d",
]


@pytest.fixture
def lambda_model(tmp_path):
    """The example with a layer in it that carries code."""
    path = tmp_path / "lambda.h5"
    shutil.copy(DIGITS, path)
    with h5py.File(path, "a") as file:
        config = json.loads(file.attrs["model_config"])
        config["config"]["layers"].append(
            {"class_name": "Lambda", "module": "keras.layers", "config": {"name": "run_me"}}
        )
        file.attrs["model_config"] = json.dumps(config)
    return path


def test_a_model_with_code_in_it_is_refused_and_the_device_untouched(
    user, server, device, lambda_model
):
    before = files_below(server.home)
    said = user.fails(5, "deploy", "--device", device, lambda_model, *QUICK)
    assert "Lambda" in said
    assert "--trust-model" in said
    assert files_below(server.home) == before


@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_file_name_is_only_a_name(user, server, device, tmp_path, name):
    model = tmp_path / "models" / f"{name}.h5"
    model.parent.mkdir()
    shutil.copy(DIGITS, model)
    report = user.report("deploy", "--device", device, *QUICK, "--", model)
    assert report["model"]["name"] == name
    assert not list(tmp_path.rglob("pwned"))
    (release,) = (server.home / ".edgeq" / "models").iterdir()
    assert release.name.isascii()
    assert "\n" not in release.name


@pytest.mark.parametrize("name", [*NAMES, "", "..", "x" * 65])
def test_a_hostile_device_name_is_a_usage_error(user, server, name):
    host = f"{server.user}@127.0.0.1:{server.port}"
    words = ("--profile", "linux", "--host", host, "--accept-new", "--", name)
    user.fails(2, "devices", "add", *words)
    assert user.run("devices", "list", "--json").stdout.count('"name"') == 0


@pytest.mark.parametrize(
    "host", ["-oProxyCommand=touch pwned", "user@-x", "a b", "u@h\n", "$(id)@h", "h:99999", "@", ""]
)
def test_a_hostile_address_never_reaches_a_shell(user, tmp_path, host):
    words = ("devices", "add", "x", "--profile", "linux", "--accept-new", f"--host={host}")
    done = user.run(*words)
    assert done.returncode in (2, 4), done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("pwned"))


def test_an_unknown_host_key_is_not_trusted_in_silence(user, server):
    host = f"{server.user}@127.0.0.1:{server.port}"
    words = ("devices", "add", "x", "--profile", "linux", "--host", host)
    words += ("--identity", server.identity)
    fingerprint = server.host_key().fingerprint
    assert fingerprint in user.fails(4, *words)
    user.fails(4, *words, "--fingerprint", "SHA256:" + "A" * 43)
    assert "Accepted" not in server.log
    assert user.run(*words, "--fingerprint", fingerprint).returncode == 0


def test_a_changed_host_key_is_refused_before_the_log_in(user, server, device, tmp_path):
    sshd.make_key(tmp_path / "new")
    for end in ("", ".pub"):
        (tmp_path / f"new{end}").replace(server.folder / f"host_ed25519{end}")
    os.kill(int((server.folder / "pid").read_text()), signal.SIGHUP)
    server.wait_for_log("Received SIGHUP")
    logins = server.log.count("Accepted")
    said = user.fails(4, "deploy", "--device", device, DIGITS, *QUICK)
    assert server.host_key().fingerprint in said
    assert "edgeq devices remove" in said
    assert server.log.count("Accepted") == logins


def test_a_machine_that_is_not_there_is_exit_4(user):
    words = ("--profile", "linux", "--accept-new", "--host", f"x@127.0.0.1:{sshd.free_port()}")
    assert "refused" in user.fails(4, "devices", "add", "gone", *words)


def test_a_full_disk_leaves_the_device_as_it_was(user, tmp_path, add):
    options = sshd.Options(file_limit_kib=4096)
    with sshd.running(tmp_path / "small", options) as small:
        name = add(small, "small")
        said = user.fails(1, "deploy", "--device", name, DIGITS, *QUICK)
        assert "small" in said
        assert not list(small.home.rglob("*.part*"))
        assert not (small.home / ".edgeq" / "models").exists()


def test_a_host_killed_in_mid_push_leaves_nothing_visible_and_the_next_deploy_works(
    user, server, add
):
    with running_proxy(server.port, Fault(kind="throttle", bytes_per_s=2 << 20)) as proxy:
        name = add(server)
        inventory = user.home / "edgeq" / "config" / "devices.toml"
        text = inventory.read_text()
        inventory.write_text(text.replace(f"port = {server.port}", f"port = {proxy.port}"))
        runtimes = server.home / ".edgeq" / "runtimes"
        deadline = time.monotonic() + 120
        with user.start("deploy", "--device", name, DIGITS, *QUICK) as process:
            while not list(runtimes.glob("*.part*")):
                assert process.poll() is None, process.stderr.read()
                assert time.monotonic() < deadline
                time.sleep(0.02)
            time.sleep(0.5)
            process.send_signal(signal.SIGKILL)
        assert not (server.home / ".edgeq" / "models").exists()
        assert all(".part" in path.name for path in runtimes.iterdir())
    inventory.write_text(text)
    report = user.report("deploy", "--device", name, DIGITS, *QUICK)
    assert report["transfer"]["bytes_sent"] < report["transfer"]["bytes_total"]
    assert current(server.home).startswith("1-")
    assert not list((server.home / ".edgeq").rglob("*.part*"))


def test_ctrl_c_is_exit_130_and_leaves_no_child(user, server, device):
    with user.start("deploy", "--device", device, DIGITS, "--duration", "60") as process:
        lines = iter(process.stderr.readline, b"")
        assert any(b"device: run" in line for line in lines)
        process.send_signal(signal.SIGINT)
        said = process.stderr.read().decode()
        assert process.wait(60) == 130
    assert "Traceback" not in said
    assert not (server.home / ".edgeq" / "models" / "digits_cnn" / "current").exists()
    models = server.home / ".edgeq" / "models"
    assert not models.exists() or list(models.iterdir()) == []


def test_a_busy_device_names_who_has_it(user, device):
    user.report("deploy", "--device", device, DIGITS, *QUICK)
    with user.start("deploy", "--device", device, DIGITS, "--duration", "60") as first:
        lines = iter(first.stderr.readline, b"")
        assert any(b"device: run" in line for line in lines)
        said = user.fails(1, "deploy", "--device", device, DIGITS, *QUICK)
        assert "busy" in said
        assert "digits_cnn" in said
        first.send_signal(signal.SIGTERM)
        first.stderr.read()
        assert first.wait(60) == 143
