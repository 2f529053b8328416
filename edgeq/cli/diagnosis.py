"""What the doctor found, for people."""

from edgeq.cli import render
from edgeq.doctor import Diagnosis

_MARKS = {"ok": "ok", "note": "note", "lack": "LACK"}


def show(found: Diagnosis) -> None:
    """Print every finding, and what is done about it."""
    rows = []
    for finding in found.findings:
        rows.append((_MARKS[finding.level], finding.what, finding.found))
        if finding.then:
            rows.append(("", "", f"-> {finding.then}"))
    render.table(("", "what", "found"), rows, "nothing was looked at")
    lacks = sum(finding.level == "lack" for finding in found.findings)
    render.say(f"{found.device}: " + (f"{lacks} lacking" if lacks else "ready for edgeq deploy"))
