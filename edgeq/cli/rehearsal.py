"""A dry run, for people."""

from edgeq.cli import render, wording
from edgeq.rehearse import Rehearsal


def show(found: Rehearsal, json: str | None) -> None:
    """Print it, and write it as JSON to the file ``json``; ``-`` prints the JSON instead."""
    text = found.model_dump_json(by_alias=True, indent=2) + "\n"
    render.for_machines(text, json)
    if json == "-":
        return
    artifact, quality = found.artifact, found.quality
    ratio = wording.number(artifact.compression_ratio, "times smaller")
    render.fields(
        (
            ("device", f"{found.device}: {found.machine}"),
            ("python", found.python),
            ("runtime", found.runtime),
            ("artifact", f"{artifact.format} {artifact.precision}, {ratio}"),
            ("SQNR", wording.number(quality.sqnr_db, "dB")),
            ("accuracy", wording.accuracies(quality.float_accuracy, quality.artifact_accuracy)),
            *(("would send", f"{one.what}: {_bytes(one.send_bytes)}") for one in found.sending),
            ("active now", found.active or "none"),
            ("would be", found.release if found.release != found.active else "the same"),
            *(("gate failed", failure) for failure in found.failures),
            *(("warning", warning) for warning in found.warnings),
        )
    )
    render.say("nothing was sent or changed")


def _bytes(count: int) -> str:
    return f"{count:,} bytes" if count else "nothing, it is there"
