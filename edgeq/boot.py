"""How the agent gets to a device that has nothing but a Python."""

_SPACE_ERRNOS = (28, 122)  # ENOSPC, EDQUOT

# Takes the agent's bytes from standard input, checks them, puts them into place by one rename, and
# becomes the agent. Python 3.6 or newer.
_BOOT = f"""
import hashlib, json, os, sys
path, digest, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
part = path + ".part-%d" % os.getpid()
try:
    os.umask(0o077)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    data = b""
    while len(data) < size:
        piece = os.read(0, size - len(data))
        if not piece:
            sys.exit(1)
        data += piece
    if hashlib.sha256(data).hexdigest() != digest:
        sys.exit("the agent arrived damaged")
    try:
        with open(part, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(part, path)
    finally:
        if os.path.exists(part):
            os.unlink(part)
    os.execv(sys.executable, [sys.executable, "-B", path, "serve"])
except OSError as error:
    kind = "space" if error.errno in {_SPACE_ERRNOS} else "io"
    said = {{"type": "Failed", "kind": kind, "message": "%s: %s" % (path, error.strerror)}}
    sys.stdout.write(json.dumps(said) + "\\n")
"""


def boot_argv(python: str, path: str, sha256: str, size_bytes: int) -> list[str]:
    """The command that reads ``size_bytes`` of agent, keeps them as ``path`` and serves.

    The program is one word of letters, digits and brackets, for the sake of odd login shells.
    """
    program = f'exec(bytes.fromhex("{_BOOT.encode().hex()}"))'
    return [python, "-B", "-c", program, path, sha256, str(size_bytes)]
