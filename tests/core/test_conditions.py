"""Clock, heat, company and cooling in the report and the verdict."""

import pytest

from edgeq import wire
from edgeq.core import conditions, cores, cpulist, raw, report, summary, telemetry, verdict
from edgeq.core.profile import RunProtocol
from edgeq.errors import AgentError
from tests.fakes import measured as device
from tests.fakes.measured import MS, Sensor
from tests.fakes.outcome import outcome

PROTOCOL = RunProtocol(processes=1, runs=100, seconds=0)
RUN = [100 * MS] * 100  # ten seconds
MOMENTS = [i / 10 for i in range(100)]


def policy(name="policy0", cpus=(0, 1, 2, 3), **changes):
    facts = {"governor": "ondemand", "driver": "cpufreq-dt", "core": "0x41/0xd08"}
    limits = {"min_mhz": 600.0, "max_mhz": 1800.0, "hardware_max_mhz": 1800.0}
    return wire.Policy(name, cpus, **{**facts, **limits, **changes})


def clocks(*series, sources=("policy0", "policy4")):
    return [
        Sensor(wire.Channel("frequency_mhz", source), values)
        for source, values in zip(sources, series, strict=False)
    ]


def samples(*series, latencies=None, **options):
    sensors = options.pop("sensors", clocks(*series))
    quiet = {"throttle_before": (), "throttle_after": ()}
    return device.samples(
        [latencies or RUN], sensors=sensors, sensor_times_s=MOMENTS, **{**quiet, **options}
    )


def judge(found):
    return verdict.judge(verdict.Evidence(raw=found, protocol=PROTOCOL))


def codes(found):
    return [reason.split(":")[0] for reason in judge(found).reasons]


@pytest.mark.parametrize(
    ("mhz", "changes", "reasons"),
    [
        (1800.0, {}, ()),
        (1700.0, {}, ()),
        (
            600.0,
            {},
            (
                "frequency: ran at 600 of 1800 MHz (governor ondemand); --pin-frequency holds it"
                " at the highest",
            ),
        ),
        # A limit that the device's owner set, or its power mode, is what it is measured at.
        (1200.0, {"max_mhz": 1200.0}, ()),
        (
            600.0,
            {"pinned": True, "min_mhz": 1500.0, "max_mhz": 1500.0},
            (
                "frequency: ran at 600 of 1500 MHz, which it was pinned to: the firmware or the"
                " hardware holds it",
            ),
        ),
        # An x86 boosts above what it holds.
        (1500.0, {"driver": "intel_pstate", "max_mhz": 4700.0, "base_mhz": 1400.0}, ()),
        (1500.0, {"driver": "amd-pstate-epp", "max_mhz": 4700.0}, ()),
        (600.0, {"max_mhz": None, "hardware_max_mhz": None}, ()),
    ],
)
def test_a_clock_below_what_it_may_be_is_named(mhz, changes, reasons):
    found = samples([mhz] * 100, policies=(policy(**changes),))
    assert judge(found).reasons == reasons


def test_the_fastest_cpu_at_each_moment_counts_since_a_model_may_move():
    here = [1800.0 if i // 10 % 2 else 600.0 for i in range(100)]
    there = [2400.0 - value for value in here]
    policies = (policy(), policy("policy4", (4, 5, 6, 7)))
    assert codes(samples(here, there, policies=policies)) == []


def test_only_the_cpus_of_the_run_count():
    policies = (policy(), policy("policy4", (4, 5), hardware_max_mhz=2400.0, max_mhz=2400.0))
    series = [600.0] * 100, [2400.0] * 100
    assert codes(samples(*series, policies=policies, cpus=(1,))) == ["frequency"]
    assert codes(samples(*series, policies=policies, cpus=(4, 5))) == []


def test_throttle_flags_say_it_better():
    found = samples([600.0] * 100, policies=(policy(),), throttle_after=("occurred:throttled",))
    assert codes(found) == ["throttled"]


def test_a_pis_firmware_knows_better_than_its_kernel():
    """The kernel goes on showing what it asked for."""
    sources = ("policy0", "vcgencmd measure_clock arm")
    slow = [600.0 if place % 5 == 0 else None for place in range(100)]
    told = {"sensors": clocks([1800.0] * 100, slow, sources=sources), "policies": (policy(),)}
    found = samples(**told)
    assert codes(found) == ["frequency"]
    section = telemetry.thermal(found).section
    assert (section.frequency_min_mhz, section.frequency_max_mhz) == (600.0, 600.0)
    told["sensors"] = clocks([1800.0] * 100, [600.0] + [None] * 99, sources=sources)
    found = samples(**told)
    assert codes(found) == []
    assert telemetry.thermal(found).section.frequency_max_mhz == 1800.0


def test_a_clock_that_was_hardly_looked_at_is_not_judged():
    found = device.samples(
        [RUN],
        sensors=clocks([600.0, 600.0]),
        sensor_times_s=[1.0, 2.0],
        policies=(policy(),),
        throttle_before=(),
        throttle_after=(),
    )
    assert codes(found) == []
    assert conditions.clock(found) is None


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            ("occurred:under-voltage", "under-voltage"),
            "throttled: under-voltage, so its power supply or cable is too weak: use the one made"
            " for the board (occurred:under-voltage, under-voltage)",
        ),
        (
            ("occurred:over-current oc2 5 times",),
            "throttled: over-current, so it drew more than its supply or power mode allows"
            " (occurred:over-current oc2 5 times)",
        ),
        (
            ("soft temperature limit",),
            "throttled: it was too warm, or capped: cool it, and measure after --cool-to"
            " (soft temperature limit)",
        ),
        (
            ("something new",),
            "throttled: the device held its clock back or lacked power (something new)",
        ),
    ],
)
def test_what_throttled_it_is_named_with_the_mend(flags, words):
    found = judge(samples([1800.0] * 100, throttle_after=flags))
    assert found.status == "invalid"
    assert found.reasons == (words,)


def test_an_old_sticky_flag_is_told_but_not_held_against_the_run():
    old = ("occurred:under-voltage", "occurred:throttled")
    found = samples([1800.0] * 100, throttle_before=old, throttle_after=old)
    assert judge(found).status == "valid"
    made = summary.summarise(outcome(raw=found, protocol=PROTOCOL))
    assert made.thermal.occurred_before == ("under-voltage", "throttled")
    assert made.thermal.throttled is False
    assert (
        "before this run, since the device was started: under-voltage, throttled:"
        " its power supply or cable is too weak"
    ) in made.warnings


@pytest.mark.parametrize(
    ("cooled", "missing", "reasons"),
    [
        (wire.Cooled(50.0, True, 12.0, 49.5), {}, ()),
        (
            wire.Cooled(50.0, False, 300.2, 61.25),
            {},
            (
                "not-cooled: it began at 61.2 °C after 300 s of waiting, 50 °C was asked for",
            ),
        ),
        (
            wire.Cooled(50.0, False),
            {"cooling": "no thermal zone"},
            ("not-cooled: no thermal zone, so it is not known whether it was at 50 °C",),
        ),
    ],
)  # fmt: skip
def test_a_device_that_was_not_cool_is_inconclusive(cooled, missing, reasons):
    found = samples([1800.0] * 100, cooled=cooled, missing=missing)
    assert judge(found).reasons == reasons
    assert judge(found).status == ("inconclusive" if reasons else "valid")
    section = summary.summarise(outcome(raw=found, protocol=PROTOCOL)).cooling
    assert section == report.CoolingSection(
        target_c=50.0,
        reached=cooled.reached,
        waited_s=cooled.waited_s,
        worst_start_c=cooled.worst_c,
    )


def warming(rise, slower, latency_ns=100 * MS):
    zone = Sensor(
        wire.Channel("temperature_c", "cpu-thermal"), [50.0 + rise * i / 99 for i in range(100)]
    )
    runs = [round(latency_ns * (1 + slower * i / 99)) for i in range(100)]
    return samples(latencies=runs, sensors=[zone])


def test_getting_warmer_and_slower_is_named():
    found = warming(15.0, 0.09)
    assert "heating: it became 10 °C warmer and 6% slower over the run" in judge(found).reasons
    assert telemetry.thermal(found).section.rise_c == pytest.approx(10.0, abs=0.2)


def test_getting_warmer_alone_is_a_warning():
    found = warming(15.0, 0.0)
    assert codes(found) == []
    made = summary.summarise(outcome(raw=found, protocol=PROTOCOL))
    assert any(warning.startswith("the device became 10 °C warmer") for warning in made.warnings)


def test_getting_slower_at_a_steady_heat_is_not_heating():
    assert "heating" not in codes(warming(1.0, 0.09))


def contention(**changes):
    return wire.Contention(**{"seconds": 10.0, "busy_s": 10.0, "total_s": 40.0, **changes})


@pytest.mark.parametrize(
    ("options", "reasons"),
    [
        ({"contention": contention()}, ()),
        (
            {"contention": contention(busy_s=16.0, names=("apt", "cron"), shares=(0.52, 0.08))},
            (
                "cpu-contended: other programs took 15% of the device's CPU time"
                " (apt 52% of a core, cron 8% of a core)",
            ),
        ),
        (
            {"contention": contention(busy_s=16.0, total_s=20.0), "cpus": (2, 3)},
            ("cpu-contended: other programs took 30% of CPU 2-3's time",),
        ),
        (
            {"contention": contention(busy_s=12.0, stolen_s=2.0)},
            ("cpu-contended: the hypervisor gave 17% of the CPU time in use to other machines",),
        ),
        (
            {"contention": contention(stalled_s=0.7, swapped_bytes=25 << 20)},
            (
                "memory-pressure: programs waited 7% of the time for memory,"
                " 25 MiB were swapped in and out",
            ),
        ),
        ({"contention": contention(stalled_s=0.4, swapped_bytes=4096)}, ()),
        ({"contention": contention(busy_s=None, total_s=None)}, ()),
    ],
)
def test_company_is_named(options, reasons):
    found = samples([1800.0] * 100, cpu_child_s=10.0, **options)
    assert judge(found).reasons == reasons


def test_the_report_names_governor_limits_and_cores():
    policies = (
        policy(core="0x41/0xd05 + 0x41/0xd0b", pinned=True),
        policy("policy4", (4, 6), governor="schedutil", min_mhz=None, hardware_min_mhz=300.0),
    )
    section = telemetry.thermal(samples([1800.0] * 100, policies=policies)).section
    assert (section.governor, section.pinned) == ("ondemand + schedutil", False)
    assert section.policies == (
        report.PolicySection(
            name="policy0",
            cpus="0-3",
            core="Cortex-A55 + Cortex-A76",
            governor="ondemand",
            min_mhz=600.0,
            max_mhz=1800.0,
            hardware_max_mhz=1800.0,
            pinned=True,
        ),
        report.PolicySection(
            name="policy4",
            cpus="4,6",
            core="Cortex-A72",
            governor="schedutil",
            max_mhz=1800.0,
            hardware_min_mhz=300.0,
            hardware_max_mhz=1800.0,
        ),
    )


def test_a_clock_that_the_devices_settings_limit_is_a_warning():
    found = samples([1200.0] * 100, policies=(policy(max_mhz=1200.0),))
    made = summary.summarise(outcome(raw=found, protocol=PROTOCOL))
    assert (
        "the device's settings let CPU 0-3 run at 1200 of 1800 MHz"
        " (scaling_max_freq, or its power mode)"
    ) in made.warnings


def test_what_the_agent_notes_is_a_warning():
    made = summary.summarise(
        outcome(raw=samples(notes=("could not be put back",)), protocol=PROTOCOL)
    )
    assert "could not be put back" in made.warnings


@pytest.mark.parametrize(
    "changes",
    [
        {"cpus": (-1,)},
        {"policies": (policy(max_mhz=float("nan")),)},
        {"policies": (policy(hardware_max_mhz=-5.0),)},
        {"policies": (policy(governor="x" * 300),)},
        {"policies": (policy(),) * 300},
        {"contention": contention(busy_s=float("inf"))},
        {"contention": contention(names=("x" * 201,))},
        {"cooled": wire.Cooled(float("nan"), True)},
        {"cooled": wire.Cooled(50.0, True, -1.0)},
        {"notes": ("x",) * 21},
        {"notes": ("x" * 5000,)},
    ],
)
def test_conditions_that_cannot_be_are_refused(changes):
    measured, payload = device.measure([RUN], **changes)
    with pytest.raises(AgentError, match="figures that cannot be"):
        raw.read(measured, payload)


def test_an_agent_of_before_tells_nothing_of_it_and_is_read():
    found = device.samples([RUN])
    assert (conditions.governor(found), conditions.pinned(found)) == (None, None)
    assert conditions.cooling_section(found) is None


@pytest.mark.parametrize(
    ("text", "cpus"), [("2-3", (2, 3)), ("0,2", (0, 2)), ("3, 1-2,1", (1, 2, 3)), ("7", (7,))]
)
def test_lists_of_cpus_are_those_of_the_kernel(text, cpus):
    assert cpulist.parse(text) == cpus
    assert cpulist.parse(cpulist.listed(cpus)) == cpus


@pytest.mark.parametrize("text", ["", "a", "1-", "-1", "3-1", "0,,1", "1-99999", "0x2"])
def test_what_is_no_list_of_cpus_is_refused(text):
    with pytest.raises(ValueError, match="is not a"):
        cpulist.parse(text)


def test_cores_have_names():
    assert cores.name("0x41/0xd0b") == "Cortex-A76"
    assert cores.name("0x41/0xfff") == "0x41/0xfff"
    assert cores.name("") is None
