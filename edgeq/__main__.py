"""``python -m edgeq``: the same as the ``edgeq`` command."""

from edgeq.cli.app import main

main()
