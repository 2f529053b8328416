"""A run's parts, as a deploy brings them to the report."""

import dataclasses

from edgeq import registry
from edgeq.core import gates, summary
from edgeq.core.machine import Facts, PythonFacts
from edgeq.core.report import (
    ArtifactSection,
    ModelSection,
    ParitySection,
    QualitySection,
    RuntimeSection,
    TimingsSection,
    TransferSection,
)
from tests.fakes import measured as device

FACTS = Facts(
    system="Linux",
    architecture="aarch64",
    kernel="6.12.47+rpt-rpi-v8",
    os="Debian GNU/Linux 13 (trixie)",
    model="Raspberry Pi 4 Model B Rev 1.4",
    cpu="Cortex-A72",
    cores=4,
    memory_mib=3794.0,
    home="/home/pi",
    root="/home/pi/.edgeq",
    wall_time_s=1.0,
)
PYTHON = PythonFacts(path="/usr/bin/python3", version=(3, 13, 5))


def outcome(**changes) -> summary.Outcome:
    """A good run of a digits model on a Raspberry Pi 4."""
    pi4 = registry.profile("pi4")
    good = summary.Outcome(
        run_id="20261121-091500-3f9a",
        created="2026-11-21T09:15:00Z",
        device=summary.device_section("bench", pi4, FACTS, PYTHON),
        model=ModelSection(
            name="digits.h5", sha256="a" * 64, size_bytes=402_432, source="keras-h5"
        ),
        artifact=ArtifactSection(
            format="tflite",
            precision="int8",
            sha256="b" * 64,
            size_bytes=35_288,
            compression_ratio=402_432 / 35_288,
        ),
        quality=QualitySection(
            samples=360,
            sqnr_db=31.4,
            cosine=0.9996,
            top1_agreement=0.9972,
            float_accuracy=0.9889,
            artifact_accuracy=0.9861,
            accuracy_drop=0.0028,
        ),
        parity=ParitySection(samples=8, max_abs_diff=0.0, identical=True),
        raw=device.samples(
            [device.steady(100, seed=i) for i in range(3)],
            throttle_before=(),
            throttle_after=(),
            missing={"power": "no power meter found (hwmon INA, battery, RAPL)"},
        ),
        runtime=RuntimeSection(name="litert", version="2.3.0", threads=1, delegate="XNNPACK"),
        budgets=pi4.profile.budgets,
        protocol=pi4.profile.run,
        gates=(
            *gates.quality_gates(
                QualitySection(
                    samples=360,
                    float_accuracy=0.9889,
                    artifact_accuracy=0.9861,
                    accuracy_drop=0.0028,
                ),
                has_real_data=True,
            ),
            gates.parity_gate(max_abs_diff=0.0, limit=0.05),
        ),
        transfer=TransferSection(bytes_sent=52_000, bytes_total=61_000_000, seconds=0.31),
        timings=TimingsSection(
            load=4.2, quantize=0.4, verify=0.3, provision=1.1, push=0.31, run=12.5, total=14.9
        ),
    )
    return dataclasses.replace(good, **changes)
