"""The lab's hand in a machine: as root, answers one line of JSON with another on a virtio port.

Started by process 1, so it is there without a network, and again after every boot. It owns the
state behind the sensors. Standard library only; runs on the release's own Python.
"""

import base64
import ctypes
import fcntl
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

sys.path.insert(0, "/usr/lib/edgeq-lab")
import state

_PORT = "org.edgeq.lab"
_SSHD_PID = "/run/sshd.pid"
_SSHD_S = 60.0
_HOST_GONE_S = 0.5
_RNDADDENTROPY = 0x40085203
_RNDRESEEDCRNG = 0x5207
_MS_BIND = 4096


class Agent:
    """What the host may ask for: the public methods, by name."""

    def __init__(self):
        self.board = None
        self.load_board()

    def load_board(self):
        path = Path("/etc/edgeq-lab/board.json")
        if path.exists():
            self.board = state.Board(json.loads(path.read_text()))
        return {}

    def ping(self):
        return {"uptime_ns": time.monotonic_ns(), "sshd": Path(_SSHD_PID).exists()}

    def run(self, command, limit_s):
        """A shell command as root; output and errors together."""
        with subprocess.Popen(
            ["/bin/sh", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd="/root",
        ) as child:
            try:
                output, _ = child.communicate(timeout=limit_s)
                code = child.returncode
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                output, code = child.stdout.read(), None
        return {"code": code, "output": output.decode("utf-8", "replace")}

    def unpack(self, tar_base64):
        with tarfile.open(fileobj=io.BytesIO(base64.b64decode(tar_base64))) as tree:
            tree.extractall("/")
        os.sync()
        return {}

    def identify(self, hostname, host_key, host_key_public, machine_id, time_ns, entropy):
        """Become another machine than the template: keys, names, clock, random numbers."""
        self.clock(time_ns)
        self._random(base64.b64decode(entropy))
        _write("/etc/ssh/ssh_host_ed25519_key", host_key, 0o600)
        _write("/etc/ssh/ssh_host_ed25519_key.pub", host_key_public, 0o644)
        _write("/etc/machine-id", machine_id + "\n", 0o444)
        _write("/etc/hostname", hostname + "\n", 0o644)
        _write("/etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {hostname}\n", 0o644)
        Path("/proc/sys/kernel/hostname").write_text(hostname)
        Path(_SSHD_PID).unlink(missing_ok=True)
        with subprocess.Popen(["/usr/sbin/sshd"], stdin=subprocess.DEVNULL) as starting:
            os.sync()  # a power cut right after must not bring the template's identity back
        if starting.returncode:
            raise RuntimeError(f"sshd ended with {starting.returncode}")
        end_s = time.monotonic() + _SSHD_S
        while not Path(_SSHD_PID).exists():  # it writes that once it listens
            if time.monotonic() > end_s:
                raise RuntimeError("sshd does not listen")
            time.sleep(0.005)
        return {}

    def clock(self, time_ns):
        time.clock_settime_ns(time.CLOCK_REALTIME, time_ns)
        return {}

    def set(self, changes):
        return self.board.apply(changes)

    def play(self, steps):
        threading.Thread(target=self.board.play, args=(steps,), daemon=True).start()
        return {}

    def played(self):
        return {"rails": self.board.history(), "playing": self.board.playing}

    def _random(self, entropy):
        """Clones would else draw the template's numbers, its boot_id among them."""
        with Path("/dev/urandom").open("wb", buffering=0) as file:
            head = len(entropy) * 8, len(entropy)
            packed = b"".join(number.to_bytes(4, sys.byteorder) for number in head) + entropy
            fcntl.ioctl(file, _RNDADDENTROPY, packed)
            fcntl.ioctl(file, _RNDRESEEDCRNG)
        boot_id = Path("/run/edgeq-lab/boot_id")
        boot_id.write_text(Path("/proc/sys/kernel/random/uuid").read_text())
        libc = ctypes.CDLL(None, use_errno=True)
        target = b"/proc/sys/kernel/random/boot_id"
        libc.mount(bytes(boot_id), target, None, ctypes.c_ulong(_MS_BIND), None)


def _write(path, text, mode):
    with Path(path).open("w") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)


def _device():
    """The port's device file; without udev there is no link with its name."""
    while True:
        for folder in Path("/sys/class/virtio-ports").glob("*"):
            if (folder / "name").read_text().strip() == _PORT:
                return "/dev/" + folder.name
        time.sleep(0.05)


def _answer(agent, line):
    request = {}
    try:
        request = json.loads(line.decode())
        method = getattr(agent, request["do"])
        reply = {"id": request["id"], "result": method(**request["with"])}
    except Exception as error:  # noqa: BLE001  the host must hear of it, whatever it is
        reply = {"id": request.get("id"), "error": f"{type(error).__name__}: {error}"}
    return json.dumps(reply).encode() + b"\n"


def serve(agent):
    """Answer for ever. While no host is connected, reads end at once: wait for its signal."""
    port = os.open(_device(), os.O_RDWR)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGIO})
    fcntl.fcntl(port, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(port, fcntl.F_SETFL, fcntl.fcntl(port, fcntl.F_GETFL) | os.O_ASYNC)
    pending = b""
    while True:
        chunk = os.read(port, 65536)
        if not chunk:
            pending = b""
            signal.sigtimedwait({signal.SIGIO}, _HOST_GONE_S)
            continue
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            reply = _answer(agent, line)
            while reply:
                reply = reply[os.write(port, reply) :]


if __name__ == "__main__":
    Path("/proc/self/oom_score_adj").write_text("-1000")
    serve(Agent())
