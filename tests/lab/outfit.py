"""What makes the general image one board: drivers to load, look-alikes, marks, facts."""

import base64
import io
import json
import shlex
import tarfile
from pathlib import Path

from tests.lab.boards import Board

ANDROID = "android"
ADB_PORT = 5555
# What stands for Android's own adbd; see there.
DAEMON = Path(__file__).resolve().parents[1] / "android" / "adbd.py"
_ADBD = "usr/local/lib/adbd.py"


def packed(board: Board) -> str:
    """The board's own files as a tar archive, base64."""
    files = {
        "etc/edgeq-lab/board.json": (json.dumps(_facts(board), indent=1), 0o644),
        "etc/edgeq-lab/setup": (_setup(board), 0o755),
        "etc/edgeq-lab/vcgencmd": (_assignments(board.vcgencmd), 0o644),
    }
    for path, text in board.files.items():
        files[path.lstrip("/")] = (text, 0o644)
    if board.profile == ANDROID:
        files[_ADBD] = (DAEMON.read_text(), 0o755)
        files["usr/local/bin/getprop"] = (_getprop(board), 0o755)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tree:
        for name, (text, mode) in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text.encode()), mode
            tree.addfile(entry, io.BytesIO(text.encode()))
        for tool in board.tools:
            link = tarfile.TarInfo(f"usr/bin/{tool}")
            link.type, link.linkname = tarfile.SYMTYPE, f"/usr/lib/edgeq-lab/{tool}"
            tree.addfile(link)
    return base64.b64encode(out.getvalue()).decode()


def _facts(board: Board) -> dict[str, object]:
    """What the programs in the machine need to know."""
    rails = [
        {
            "name": rail.name,
            "chip": rail.chip,
            "address": rail.address,
            "channel": rail.channel,
            "shunt_uohm": rail.shunt_uohm,
            "volts": rail.volts,
            "watts": rail.watts,
        }
        for rail in board.rails
    ]
    return {
        "name": board.name,
        "model": board.model,
        "zones": board.zones,
        "rails": rails,
        "pmic_volts": board.pmic_volts,
    }


def _assignments(values: dict[str, object]) -> str:
    return "".join(f"{key}={shlex.quote(str(value))}\n" for key, value in values.items())


def _setup(board: Board) -> str:
    """The script that process 1 runs at every boot, before sshd."""
    millidegrees = ",".join([str(round(board.temperature_c * 1000))] * len(board.zones))
    parameters = {
        "zones": ",".join(board.zones),
        "temp_mc": millidegrees,
        "crit_mc": round(board.critical_c * 1000),
        "khz": ",".join(str(round(step * 1000)) for step in board.steps_mhz),
        "cluster": board.cluster,
        "cap_by_kernel": int(board.cap_by_kernel),
        "firmware": int(board.firmware),
        "clock_index": board.vcgencmd.get("clock_index", 0),
    }
    words = " ".join(f"{key}={value}" for key, value in parameters.items())
    lines = ["#!/bin/sh", f"# {board.model}", f"modprobe cpufreq_{board.governor} 2>/dev/null"]
    lines.append(f"modprobe edge_sim {words}")
    if board.firmware:
        lines.append("chgrp video /dev/vcio")
    lines.append(
        "for policy in /sys/devices/system/cpu/cpufreq/policy*; do"
        f" echo {board.governor} > $policy/scaling_governor; done"
    )
    chips = sorted({rail.chip for rail in board.rails} - {"pmic"})
    if chips:
        lines += ["modprobe i2c-dev", "modprobe edge_i2c"]
        lines += ["modprobe ina3221"] if "ina3221" in chips else []
        lines += ["modprobe ina2xx"] if {"ina226", "ina219"} & set(chips) else []
    if board.battery is not None:
        lines.append("modprobe test_power")
        for key, value in board.battery.items():
            lines.append(f"echo {value} > /sys/module/test_power/parameters/{key}")
    if board.profile == ANDROID:
        lines.append("mkdir -p /data/local/tmp")
        said = "</dev/null >/run/edgeq-lab/adbd.log 2>&1 &"
        lines.append(f"setsid python3 /{_ADBD} {ADB_PORT} --bind 0.0.0.0 {said}")
    lines += _cpuinfo(board)
    return "\n".join(lines) + "\n"


def _getprop(board: Board) -> str:
    answers = {
        "ro.serialno": board.serial,
        "ro.product.manufacturer": board.model.partition(" ")[0],
        "ro.product.model": board.model.partition(" ")[2],
        "ro.build.version.release": "14",
    }
    cases = "".join(f"  {name}) echo {shlex.quote(value)};;\n" for name, value in answers.items())
    return f"#!/bin/sh\ncase $1 in\n{cases}esac\n"


def _cpuinfo(board: Board) -> list[str]:
    """QEMU's CPU models have every option; a board's silicon may lack some."""
    edits = [f"s/ {flag}\\b//" for flag in board.hidden_flags]
    edits += [f"/^Features/s/$/ {flag}/" for flag in board.added_flags]
    if not edits and not board.cpuinfo_tail:
        return []
    script = shlex.quote(";".join(edits))
    return [
        f"sed {script} /proc/cpuinfo > /run/edgeq-lab/cpuinfo",
        f"printf %s {shlex.quote(board.cpuinfo_tail)} >> /run/edgeq-lab/cpuinfo",
        "mount --bind /run/edgeq-lab/cpuinfo /proc/cpuinfo",
    ]
