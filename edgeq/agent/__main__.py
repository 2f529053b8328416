"""The agent's entry: ``serve`` for the host, ``child`` for itself."""

from __future__ import annotations

import sys
import typing

_USAGE = "usage: python3 -B AGENT.pyz serve\n"


def main(arguments: typing.Sequence[str]) -> int:
    """Run a subcommand; its exit status."""
    if list(arguments[1:]) == ["serve"]:
        from edgeq.agent import serve

        return serve.main()
    if list(arguments[1:]) == ["child"]:
        from edgeq.agent import child

        return child.main()
    sys.stderr.write(_USAGE)
    return 2


if __name__ == "__main__":
    raise SystemExit(main(sys.argv))
