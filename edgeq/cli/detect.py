"""``edgeq profiles detect``: a profile from a machine."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeq.cli import words

if TYPE_CHECKING:
    from edgeq.cli.jobs import Target, Trust
    from edgeq.detection import Detected


def detect(
    device: Annotated[
        str | None, typer.Option(help="A device that was added, or 'host' for this machine.")
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(metavar="USER@HOST[:PORT]", help="A machine that was not added yet."),
    ] = None,
    identity: words.Identity = None,
    fingerprint: words.Fingerprint = None,
    accept_new: words.AcceptNew = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file; default: print it.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The profile's name; default: by the machine's model.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print JSON, with all that was seen.")
    ] = False,
) -> None:
    """Write the profile of a machine: which known one it is, or one made for it."""
    from contextlib import closing

    from edgeq import detection, places, registry
    from edgeq.cli import jobs, progress, render

    _check_output(output, force)
    trust = jobs.Trust(fingerprint=fingerprint, accept_new=accept_new)
    target = _target(device, host, identity, trust)
    wish = detection.Wish(
        device=target.device,
        profile=target.profile.profile,
        name=name or (output.stem if output else None),
    )
    where = places.find(os.environ)
    with (
        progress.Steps() as steps,
        closing(target.transport.connect(target.device)) as link,
    ):
        known = registry.profiles()
        found = detection.detect(link, wish, known, where, steps.line("detect"))
    if output is not None:
        render.save(output, found.text)
    if json:
        _print_json(found, output)
    elif output is None:
        sys.stdout.write(found.text)
    sys.stdout.flush()
    for line in _words(found, target, host, output):
        typer.echo(line, err=True)


def _check_output(output: Path | None, force: bool) -> None:
    from edgeq.errors import UsageError

    if output is None:
        return
    if output.suffix != ".toml":
        raise UsageError(f"{output} is no name for a profile", hint="let it end in .toml")
    if output.exists() and not force:
        raise UsageError(f"{output} is there already", hint="--force replaces it")
    if not os.access(output.absolute().parent, os.W_OK | os.X_OK):
        raise UsageError(f"-o {output}: no file can be written there", hint="name another file")


def _target(
    device: str | None, host: str | None, identity: Path | None, trust: "Trust"
) -> "Target":
    from edgeq.cli import jobs
    from edgeq.errors import UsageError

    if (device is None) == (host is None):
        raise UsageError(
            "one of --device and --host is needed",
            hint="--device NAME, --device host for this machine, or --host USER@HOST",
        )
    if host is not None:
        return jobs.target("linux", host=host, identity=identity, trust=trust)
    return jobs.target(str(device), identity=identity, trust=trust)


def _print_json(found: "Detected", output: Path | None) -> None:
    import json
    from dataclasses import asdict

    shown = {
        "name": found.name,
        "known": found.known.name if found.known else None,
        "unlike": {found.like.name: found.unlike} if found.like and found.unlike else {},
        "profile": found.profile.model_dump(mode="json"),
        "sources": dict(found.notes),
        "runs": [asdict(one) for one in found.runs],
        "facts": found.facts.model_dump(mode="json"),
        "file": str(output) if output else None,
    }
    typer.echo(json.dumps(shown, indent=2, ensure_ascii=False))


def _words(found: "Detected", target: "Target", host: str | None, output: Path | None) -> list[str]:
    """What to do with it."""
    said = [f"wrote {output}"] if output else []
    device = target.device
    local = device.transport == "local"
    profile = found.known.name if found.known else str(output or f"{found.name}.toml")
    add = f"edgeq devices add NAME --profile {profile} {_address(target, host)}"
    if host is None and not local:
        again = f"edgeq devices remove {device.name}"
        add = f"{again}; {add.replace(' NAME ', f' {device.name} ', 1)}"
    if found.known is not None:
        settled = local or (host is None and device.profile == profile)
        return [*said, f"this is {profile}" + ("" if settled else f": {add}")]
    if found.like is not None:
        said.append(f"its board is a {found.like.name}, but {found.unlike}")
    use = f"edgeq deploy --device {profile}" if local else add
    return [*said, f"no profile is of this machine; this one is: {use}"]


def _address(target: "Target", host: str | None) -> str:
    device = target.device
    if host is not None:
        return f"--host {host}"
    if device.transport == "adb":
        return f"--serial {device.serial}"
    user = f"{device.user}@" if device.user else ""
    port = f":{device.port}" if device.port else ""
    return f"--host {user}{device.host}{port}"
