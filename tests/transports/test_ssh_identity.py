"""Who the device is, and who logs in."""

import os
import socket
import subprocess
import sys

import pytest

from edgeq.core.hostkey import HostKey
from edgeq.errors import AuthError, ConfigError, ConnectError, HostKeyError, UsageError
from edgeq.transports import ssh
from tests.servers import sshd

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture(scope="module")
def many_keys(tmp_path_factory):
    """A server with a host key of each type."""
    options = sshd.Options(key_types=("rsa", "ecdsa", "ed25519"))
    with sshd.running(tmp_path_factory.mktemp("sshd") / "server", options) as running:
        yield running


@pytest.fixture
def agent(home, monkeypatch):
    """An SSH agent of the test's own."""
    path = home / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
    for _ in range(200):
        if path.exists():
            break
        process.poll()
        subprocess.run(["sleep", "0.01"], check=True)
    yield path
    process.terminate()
    process.wait()


def connections(server):
    """What sshd's log has: one entry for each connection."""
    return server.log.split("Connection from ")[1:]


def attempts_to_log_in(server):
    words = ("Accepted", "Failed publickey", "authenticating user", "invalid user", "Postponed")
    return [entry for entry in connections(server) if any(word in entry for word in words)]


@pytest.mark.parametrize("key_type", ["rsa", "ecdsa", "ed25519"])
def test_a_device_is_reached_by_the_pinned_key_of_each_type(many_keys, key_type):
    device = many_keys.device(host_key=many_keys.host_key(key_type).pin)
    link = ssh.make().connect(device)
    assert link.run(["echo", "hello"]).stdout == b"hello\n"
    link.close()


def test_scan_shows_the_fingerprint_that_ssh_keygen_shows_and_logs_in_nowhere(tmp_path):
    with sshd.running(tmp_path / "server") as server:
        key = ssh.make().scan(server.device(host_key=None))
        public = str(server.folder / "host_ed25519.pub")
        said = subprocess.run(
            ["ssh-keygen", "-lf", public], check=True, capture_output=True, text=True
        ).stdout
        assert key.fingerprint == said.split()[1]
        assert HostKey.parse(key.pin, "test") == key
        server.wait_for_log("Connection closed")
        assert attempts_to_log_in(server) == []


def test_a_device_without_a_pinned_key_is_not_even_connected_to(tmp_path):
    with sshd.running(tmp_path / "server") as server:
        before = len(connections(server))
        with pytest.raises(HostKeyError) as caught:
            ssh.make().connect(server.device(host_key=None))
        assert "edgeq devices add bench" in caught.value.hint
        assert caught.value.exit_code == 4
        assert len(connections(server)) == before


def test_a_changed_key_is_refused_before_any_log_in(tmp_path):
    sshd.make_key(tmp_path / "other")
    pinned = HostKey.parse((tmp_path / "other.pub").read_text(), "test")
    with sshd.running(tmp_path / "server") as server:
        with pytest.raises(HostKeyError) as caught:
            ssh.make().connect(server.device(host_key=pinned.pin))
        assert pinned.fingerprint in caught.value.message
        assert server.host_key().fingerprint in caught.value.message
        assert "edgeq devices remove bench" in caught.value.hint
        server.wait_for_log("Connection closed")
        assert attempts_to_log_in(server) == []


def test_a_machine_with_a_key_of_another_type_is_refused_before_any_log_in(tmp_path):
    sshd.make_key(tmp_path / "other")
    pinned = HostKey.parse((tmp_path / "other.pub").read_text(), "test")
    with sshd.running(tmp_path / "server", sshd.Options(key_types=("ecdsa",))) as server:
        with pytest.raises(HostKeyError, match="has no ssh-ed25519 host key") as caught:
            ssh.make().connect(server.device(host_key=pinned.pin))
        assert pinned.fingerprint in caught.value.message
        server.wait_for_log("no matching host key type")
        assert attempts_to_log_in(server) == []


def test_a_machine_with_the_pinned_type_beside_others_is_asked_for_that_one(many_keys):
    with pytest.raises(HostKeyError):
        ssh.make().connect(many_keys.device(host_key=flipped(many_keys.host_key("ecdsa")).pin))


@pytest.mark.parametrize(
    "pin", ["", "ssh-ed25519", "ssh-dss AAAA", "ssh-ed25519 !!!", "ssh-rsa AAAAC3NzaC1lZDI1NTE5"]
)
def test_a_pin_that_is_no_key_is_an_error_of_the_inventory(server, pin):
    with pytest.raises(ConfigError, match="device bench"):
        ssh.make().connect(server.device(host_key=pin))


def test_a_known_host_can_be_looked_up(server, home):
    (home / ".ssh" / "known_hosts").write_text(
        f"[127.0.0.1]:{server.port} {server.host_key().pin}\nother {server.host_key().pin}\n"
    )
    assert ssh.make().known(server.device()) == (server.host_key(),)
    assert ssh.make().known(server.device(host="127.0.0.2")) == ()


def test_a_hashed_known_host_is_found(server, home):
    known = home / ".ssh" / "known_hosts"
    known.write_text(f"[127.0.0.1]:{server.port} {server.host_key().pin}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(known)], check=True, capture_output=True)
    assert "127.0.0.1" not in known.read_text()
    assert ssh.make().known(server.device()) == (server.host_key(),)


def test_a_known_host_by_pattern_is_found_and_a_negated_one_is_not(server, home):
    known = home / ".ssh" / "known_hosts"
    pin = server.host_key().pin
    known.write_text(f"# a comment\n[127.0.*]:{server.port},!x {pin}\n")
    assert ssh.make().known(server.device()) == (server.host_key(),)
    known.write_text(f"[127.0.*]:{server.port},![127.0.0.1]:* {pin}\n")
    assert ssh.make().known(server.device()) == ()


def test_a_revoked_known_host_is_not_known(server, home):
    where = f"[127.0.0.1]:{server.port}"
    (home / ".ssh" / "known_hosts").write_text(
        f"{where} {server.host_key().pin}\n@revoked {where} {server.host_key().pin}\n"
    )
    assert ssh.make().known(server.device()) == ()


def test_only_modern_algorithms_are_offered():
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(20)
    port = listener.getsockname()[1]
    code = (
        "from edgeq.core.inventory import Device\nfrom edgeq.transports import ssh\n"
        f"ssh.make().scan(Device(name='x', profile='x', host='127.0.0.1', port={port}))\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL) as client:
        peer, _ = listener.accept()
        peer.settimeout(20)
        peer.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
        offer = b""
        while b"none" not in offer:
            offer += peer.recv(4096)
        peer.close()
        listener.close()
        client.wait(20)
    for old in (b"cbc", b"3des", b"md5", b"hmac-sha1", b"sha1,", b"group1-", b"group14-sha1",
                b"ssh-rsa", b"ssh-dss", b"arcfour", b"chacha"):  # fmt: skip
        assert old not in offer, old
    for new in (b"aes128-gcm@openssh.com", b"curve25519-sha256", b"rsa-sha2-512", b"ssh-ed25519"):
        assert new in offer, new


def test_a_server_that_knows_only_old_ciphers_is_refused(tmp_path):
    options = sshd.Options(settings=("Ciphers aes128-cbc",))
    with (
        sshd.running(tmp_path / "server", options) as server,
        pytest.raises(ConnectError, match="no modern way") as caught,
    ):
        ssh.make().connect(server.device())
    assert not isinstance(caught.value, HostKeyError)


def test_a_key_that_is_not_authorized_is_told_with_the_mend(server, tmp_path):
    sshd.make_key(tmp_path / "stranger")
    with pytest.raises(AuthError, match="accepts none of") as caught:
        ssh.make().connect(server.device(identity=str(tmp_path / "stranger")))
    assert "ssh-copy-id" in caught.value.hint
    assert caught.value.exit_code == 4


def test_no_key_at_all_is_told_with_the_mend(server):
    with pytest.raises(AuthError, match="there is no key") as caught:
        ssh.make().connect(server.device(identity=None))
    assert "ssh-keygen" in caught.value.hint


def test_an_identity_that_is_not_there_is_a_wrong_word(server, tmp_path):
    with pytest.raises(UsageError, match="no identity file"):
        ssh.make().connect(server.device(identity=str(tmp_path / "nowhere")))


def test_the_usual_identity_is_found_in_home(server, home):
    (home / ".ssh" / "id_ed25519").write_bytes(server.identity.read_bytes())
    ssh.make().connect(server.device(identity=None)).close()


def test_an_encrypted_key_without_an_agent_says_ssh_add(tmp_path):
    with sshd.running(tmp_path / "server") as server:
        locked(server)
        with pytest.raises(AuthError, match="encrypted") as caught:
            ssh.make().connect(server.device())
        assert caught.value.hint == f"ssh-add {server.identity}"


def test_an_encrypted_key_that_the_agent_holds_is_used(tmp_path, agent):
    with sshd.running(tmp_path / "server") as server:
        subprocess.run(["ssh-add", "-q", str(server.identity)], check=True)
        locked(server)
        ssh.make().connect(server.device()).close()
        assert agent.exists()


def test_a_key_of_the_agent_logs_in(server, agent):
    subprocess.run(["ssh-add", "-q", str(server.identity)], check=True)
    ssh.make().connect(server.device(identity=None)).close()
    assert agent.exists()


def test_a_server_that_wants_a_password_is_told_so(tmp_path):
    options = sshd.Options(
        settings=("PubkeyAuthentication no",),
    )
    with sshd.running(tmp_path / "server", options) as server:
        config = server.folder / "sshd_config"
        assert "PubkeyAuthentication no" in config.read_text()
        with pytest.raises(AuthError, match=r"refuses|wants"):
            ssh.make().connect(server.device())


def test_nobody_listening_is_told_with_host_and_port(server):
    port = sshd.free_port()
    with pytest.raises(ConnectError, match=rf"127\.0\.0\.1:{port} refused the connection"):
        ssh.make().connect(server.device(port=port))


def test_a_name_that_nobody_knows_is_told(server):
    with pytest.raises(ConnectError, match=r"no machine of that name"):
        ssh.make().connect(server.device(host="does-not-exist.invalid"))


def test_a_port_where_nobody_speaks_ssh_is_told(server):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        limits = ssh.Limits(connect_s=0.5)
        with pytest.raises(ConnectError, match="not as an SSH server"):
            ssh.make(limits=limits).connect(server.device(port=silent.getsockname()[1]))


@pytest.mark.parametrize(
    "host",
    ["-oProxyCommand=touch x", "$(touch x)", "a;touch x", "a b", "a\nb", "`x`", "'a'", "", "a/b"],
)
def test_a_hostile_host_is_refused_and_runs_nothing(server, host, home):
    (home / ".ssh" / "config").write_text('Match exec "touch x-%h"\n  User nobody\n')
    with pytest.raises(UsageError, match="is not a host name"):
        ssh.make().connect(server.device(host=host))
    assert not list(home.glob("**/x*"))


@pytest.mark.parametrize("user", ["-l", "$(touch x)", "a b", "a\nb", "", "a;b", "'"])
def test_a_hostile_user_is_refused(server, user):
    with pytest.raises(UsageError, match="is not a user name"):
        ssh.make().connect(server.device(user=user))


def test_nothing_of_a_failed_connection_reaches_the_terminal(server, tmp_path):
    """paramiko logs to stderr when nobody else listens; the key must not stand anywhere either."""
    sshd.make_key(tmp_path / "stranger")
    canary = (tmp_path / "stranger").read_text().splitlines()[1]
    device = server.device(identity=str(tmp_path / "stranger")).model_dump_json()
    code = (
        "import sys\nfrom edgeq.core.inventory import Device\nfrom edgeq.errors import EdgeqError\n"
        "from edgeq.transports import ssh\n"
        "try: ssh.make().connect(Device.model_validate_json(sys.argv[1]))\n"
        "except EdgeqError as error: sys.exit(error.exit_code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, device], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (4, "", "")
    assert canary not in server.log


def flipped(key):
    """The same key with its last bit changed."""
    return HostKey(type=key.type, blob=key.blob[:-1] + bytes([key.blob[-1] ^ 1]))


def locked(server):
    """Give the identity a passphrase."""
    command = ["ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", str(server.identity)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=dict(os.environ))
