"""The agent's entry: ``serve`` for the host, ``child`` and ``guard FOLDER`` for itself."""

from __future__ import annotations

import sys
import typing

_USAGE = "usage: python3 -B AGENT.pyz serve\n"
_GUARD_WORDS = 3


def main(arguments: typing.Sequence[str]) -> int:
    """Run a subcommand; its exit status."""
    if list(arguments[1:]) == ["serve"]:
        from edgeq.agent import serve

        return serve.main()
    if list(arguments[1:]) == ["child"]:
        from edgeq.agent import child

        return child.main()
    if len(arguments) == _GUARD_WORDS and arguments[1] == "guard":
        from pathlib import Path

        from edgeq.agent import guard

        return guard.main(Path(arguments[2]))
    sys.stderr.write(_USAGE)
    return 2


if __name__ == "__main__":
    raise SystemExit(main(sys.argv))
