"""``python -m tests.lab``: see ``scripts/lab``."""

import sys

from tests.lab import cli

sys.exit(cli.main())
