"""What ~/.ssh/config says about the way to a device."""

import pytest

from edgeq.core.inventory import Device
from edgeq.errors import AuthError, ConfigError, ConnectError, HostKeyError, UsageError
from edgeq.transports import ssh
from edgeq.transports.ssh_route import Routes, parse_address
from tests.servers import sshd


@pytest.fixture
def routes(home):
    """Finds the hops to a host by the text of a configuration."""

    def find(config, default_port=22, **device):
        (home / ".ssh" / "config").write_text(config)
        fields = {"name": "bench", "profile": "linux", "host": "pi", **device}
        environ = {"HOME": str(home), "USER": "me"}
        return Routes(environ, default_port).find(Device.model_validate(fields))

    return find


def test_without_a_configuration_the_host_is_taken_as_it_is(routes, home):
    (hop,) = routes("")
    assert (hop.host, hop.port, hop.user, hop.named) == ("pi", 22, "me", False)
    assert hop.identities[0] == home / ".ssh" / "id_ed25519"


def test_host_name_port_user_and_identity_come_from_the_configuration(routes, home):
    (hop,) = routes(
        "Host pi\n HostName 10.0.0.7\n Port 2222\n User admin\n IdentityFile ~/.ssh/bench\n"
        " IdentitiesOnly yes\nHost *\n User other\n"
    )
    assert (hop.host, hop.port, hop.user) == ("10.0.0.7", 2222, "admin")
    assert hop.identities == (home / ".ssh" / "bench",)
    assert hop.named
    assert hop.only_named


def test_the_device_comes_before_the_configuration_and_that_before_the_profile(routes):
    config = "Host pi\n Port 2222\n User admin\n"
    (own,) = routes(config, default_port=8022, port=24, user="root", identity="/k")
    assert (own.port, own.user, str(own.identities[0])) == (24, "root", "/k")
    assert routes(config, default_port=8022)[0].port == 2222
    assert routes("", default_port=8022)[0].port == 8022


def test_included_files_are_read_in_their_place(routes, home):
    (home / ".ssh" / "more").write_text("Host pi\n HostName 10.0.0.9\n")
    (hop,) = routes("Include mo*\nUser everywhere\nHost pi\n HostName 10.0.0.1\n")
    assert (hop.host, hop.user) == ("10.0.0.9", "everywhere")


def test_a_file_that_includes_itself_ends(routes):
    assert routes("Include config\nHost pi\n Port 23\n")[0].port == 23


def test_jumps_are_chained_and_use_port_22_whatever_the_profile_says(routes):
    hops = routes(
        "Host pi\n ProxyJump gate,admin@inner:2200\nHost gate\n HostName gate.example\n"
        " ProxyJump outer\n",
        default_port=8022,
    )
    assert [(h.host, h.port, h.user) for h in hops] == [
        ("outer", 22, "me"),
        ("gate.example", 22, "me"),
        ("inner", 2200, "admin"),
        ("pi", 8022, "me"),
    ]


def test_jumps_without_an_end_are_an_error(routes):
    with pytest.raises(ConfigError, match="do not end"):
        routes("Host *\n ProxyJump a\n")


def test_proxy_jump_none_is_no_jump(routes):
    assert len(routes("Host pi\n ProxyJump none\nHost *\n ProxyJump gate\n")) == 1


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("Host pi\n ProxyCommand touch x\n", "ProxyCommand"),
        ("Host pi\n Port many\n", "no port"),
        ('Match exec "true"\n User x\n', "Match exec"),
        ("Match nonsense\n", "config"),
    ],
)
def test_what_is_not_done_is_said(routes, config, words):
    with pytest.raises(ConfigError, match=words):
        routes(config)


def test_a_hostile_host_name_in_the_configuration_is_refused(routes):
    with pytest.raises(UsageError, match="HostName"):
        routes("Host pi\n HostName $(touch x)\n")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("pi@10.0.0.7", ("pi", "10.0.0.7", None)),
        ("pi@10.0.0.7:2222", ("pi", "10.0.0.7", 2222)),
        ("raspberrypi.local", (None, "raspberrypi.local", None)),
        ("pi@[fe80::1%eth0]:22", ("pi", "fe80::1%eth0", 22)),
        ("pi@fe80::1", ("pi", "fe80::1", None)),
        ("jürgen@gerät", ("jürgen", "gerät", None)),
    ],
)
def test_an_address_is_taken_apart(text, parts):
    assert parse_address(text, "--host") == parts


@pytest.mark.parametrize(
    "text",
    ["", "@host", "a@", "-oProxyCommand=x", "a@-oProxyCommand=x", "a@$(touch x)", "a@b:0",
     "a@b:99999", "a@b\nc", "a b@c", "a@'b'", "$(touch x)@b", "a@b c"],
)  # fmt: skip
def test_a_hostile_address_is_refused(text):
    with pytest.raises(UsageError):
        parse_address(text, "--host")


@pytest.fixture(scope="module")
def jump(tmp_path_factory):
    """A second server, to jump through."""
    options = sshd.Options(settings=("AllowTcpForwarding yes",))
    with sshd.running(tmp_path_factory.mktemp("jump") / "server", options) as running:
        yield running


def configure(home, jump, server, user):
    (home / ".ssh" / "config").write_text(
        f"Host behind\n HostName 127.0.0.1\n Port {server.port}\n User {user}\n"
        f" IdentityFile {server.identity}\n ProxyJump gate\n"
        f"Host gate\n HostName 127.0.0.1\n Port {jump.port}\n User {user}\n"
        f" IdentityFile {jump.identity}\n"
    )
    return server.device(host="behind", port=None, user=None, identity=None)


def test_a_device_is_reached_through_a_jump_host_that_is_known(home, jump, server):
    device = configure(home, jump, server, server.user)
    (home / ".ssh" / "known_hosts").write_text(f"[127.0.0.1]:{jump.port} {jump.host_key().pin}\n")
    assert ssh.make().scan(device) == server.host_key()
    link = ssh.make().connect(device)
    data = b"x" * (3 << 20)
    assert link.run(["cat"], stdin=data).stdout == data
    link.close()
    jump.wait_for_log("Accepted publickey")


def test_an_unknown_jump_host_is_refused(home, jump, server):
    device = configure(home, jump, server, server.user)
    with pytest.raises(HostKeyError, match="jump host") as caught:
        ssh.make().connect(device)
    assert "ssh gate" in caught.value.hint


def test_a_changed_jump_host_is_refused(home, jump, server):
    device = configure(home, jump, server, server.user)
    (home / ".ssh" / "known_hosts").write_text(f"[127.0.0.1]:{jump.port} {server.host_key().pin}\n")
    with pytest.raises(HostKeyError, match="not the machine that was pinned"):
        ssh.make().connect(device)


def test_a_jump_host_that_cannot_reach_the_device_says_so(home, jump, server):
    device = configure(home, jump, server, server.user)
    (home / ".ssh" / "known_hosts").write_text(f"[127.0.0.1]:{jump.port} {jump.host_key().pin}\n")
    closed = device.model_copy(update={"port": sshd.free_port()})
    with pytest.raises(ConnectError, match="cannot reach") as caught:
        ssh.make().connect(closed)
    assert not isinstance(caught.value, AuthError)
