"""Paramiko, imported once, quickly and quietly."""

import logging
import sys

# paramiko.config imports `invoke` for Match exec, which edgeq refuses; that is 0.2 of 0.45 seconds.
# None makes the import fail, which paramiko expects.
_had_invoke = "invoke" in sys.modules
if not _had_invoke:
    sys.modules["invoke"] = None  # type: ignore[assignment]  # documented by importlib: import fails
try:
    import paramiko
    import paramiko.agent
finally:
    if not _had_invoke:
        del sys.modules["invoke"]

# Its threads log tracebacks of broken links; what matters is in our errors.
_logger = logging.getLogger("paramiko")
_logger.addHandler(logging.NullHandler())
_logger.propagate = False

__all__ = ["paramiko"]
