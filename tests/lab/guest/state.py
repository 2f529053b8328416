"""The state behind a board's sensors: kernel drivers, vcgencmd and tegrastats read the same."""

import threading
import time
from pathlib import Path

_SIM = Path("/sys/module/edge_sim/parameters")
_POKE = Path("/sys/module/edge_i2c/parameters/poke")
_BATTERY = Path("/sys/module/test_power/parameters")
_OWN = Path("/run/edgeq-lab")
_VOLTAGE_SLACK = 0.03
# Texas Instruments data sheets. INA3221: bus 8 mV and shunt 40 uV a step, in bits 15-3.
# INA226: bus 1.25 mV, shunt 2.5 uV; INA219: bus 4 mV in bits 15-3, shunt 10 uV; their current and
# power registers count in steps that the kernel's ina2xx.c derives from the shunt (its shunt_div,
# power_lsb_factor).
_INA2XX = {
    "ina226": {"bus_uv": 1250, "bus_shift": 0, "shunt_nv": 2500, "divisor": 400, "factor": 25},
    "ina219": {"bus_uv": 4000, "bus_shift": 3, "shunt_nv": 10000, "divisor": 100, "factor": 20},
}
# The converter's channels of a Raspberry Pi 5's twelve rails, in the order it prints them.
_PMIC_CURRENTS = (0, 1, 2, 3, 4, 5, 6, 7, 17, 18, 16, 22)
_PMIC_VOLTS = (8, 9, 10, 11, 12, 13, 14, 15, 20, 21, 19, 23)


class Board:
    """The rails and other values of one machine, and the log of what the rails were set to."""

    def __init__(self, facts):
        self.facts = facts
        self.playing = False
        self._rails = {rail["name"]: rail for rail in facts["rails"]}
        self._log = []
        self._lock = threading.Lock()
        _OWN.mkdir(exist_ok=True)
        defaults = {rail["name"]: rail["watts"] for rail in facts["rails"]}
        self.apply({"rails": defaults} if defaults else {})

    def apply(self, changes):
        """Set what is named; gives what the rails' chips then really show, in watts."""
        with self._lock:
            for key, value in changes.items():
                getattr(self, "_set_" + key)(value)
        return {"rails": {name: log[-1][1] for name, log in self.history().items()}}

    def play(self, steps):
        """A changing load: each step is held for its seconds, counted from the start."""
        self.playing = True
        due = time.monotonic()
        for seconds, changes in steps:
            time.sleep(max(0.0, due - time.monotonic()))
            self.apply(changes)
            due += seconds
        time.sleep(max(0.0, due - time.monotonic()))
        self.playing = False

    def history(self):
        """Each rail's watts since boot, as [monotonic ns, watts] at every change."""
        found = {}
        for moment, values in list(self._log):
            for name, watts in values.items():
                found.setdefault(name, []).append([moment, watts])
        return found

    def _set_temperature_c(self, value):
        """One number for all zones, or numbers by the zones' names."""
        zones = self.facts["zones"]
        now = [int(text) for text in (_SIM / "temp_mc").read_text().split(",")][: len(zones)]
        if not isinstance(value, dict):
            value = dict.fromkeys(zones, value)
        for zone, celsius in value.items():
            now[zones.index(zone)] = round(celsius * 1000)
        (_SIM / "temp_mc").write_text(",".join(map(str, now)))

    def _set_cap_mhz(self, value):
        (_SIM / "cap_khz").write_text(str(round((value or 0) * 1000)))

    def _set_throttled(self, value):
        (_SIM / "throttled").write_text(str(value))

    def _set_battery(self, values):
        """By test_power's names: battery_ is put before those that lack a supply's name."""
        for name, value in values.items():
            full = name if name.startswith(("battery_", "ac_", "usb_")) else "battery_" + name
            (_BATTERY / full).write_text(str(value))

    def _set_rails(self, watts):
        pokes, shown = [], {}
        for name, value in watts.items():
            rail = self._rails[name]
            if rail["chip"] == "pmic":
                shown[name] = self._pmic(rail, value)
            else:
                words, shown[name] = registers(rail, value)
                pokes += words
        before = time.monotonic_ns()
        if pokes:
            _POKE.write_text(
                " ".join(f"{address:x} {reg:x} {value:x}" for address, reg, value in pokes)
            )
        if any(self._rails[name]["chip"] == "pmic" for name in watts):
            self._write_pmic()
        # The middle of the write: what a reader sees changes somewhere within it.
        self._log.append(((before + time.monotonic_ns()) // 2, shown))
        lines = [f"{name} {value * 1000:.0f}\n" for name, value in shown.items()]
        self._keep("rails", lines, merge=True)

    def _pmic(self, rail, watts):
        rail["amperes"] = round(watts / rail["volts"], 8)
        return rail["amperes"] * rail["volts"]

    def _write_pmic(self):
        """The lines of vcgencmd pmic_read_adc, as a Raspberry Pi 5 prints them."""
        rails = [rail for rail in self.facts["rails"] if rail["chip"] == "pmic"]
        lines = []
        for rail, number in zip(rails, _PMIC_CURRENTS):
            lines.append(_adc(rail["name"] + "_A", "current", number, rail["amperes"], "A"))
        for rail, number in zip(rails, _PMIC_VOLTS):
            lines.append(_adc(rail["name"] + "_V", "volt", number, rail["volts"], "V"))
        for number, (name, volts) in enumerate(self.facts["pmic_volts"].items(), 24):
            lines.append(_adc(name, "volt", number, volts, "V"))
        (_SIM / "pmic").write_text("".join(lines))
        self._keep("pmic", lines)

    def _keep(self, name, lines, merge=False):
        """Replace a file as a whole, so that a reader never sees half of a change."""
        path, draft = _OWN / name, _OWN / (name + ".new")
        if merge and path.exists():
            known = dict(line.split(" ", 1) for line in path.read_text().splitlines(True))
            known.update(line.split(" ", 1) for line in lines)
            lines = [first + " " + rest for first, rest in known.items()]
        draft.write_text("".join(lines))
        draft.replace(path)


def _adc(name, kind, number, value, unit):
    return f"{name:>14} {kind}({number})={value:.8f}{unit}\n"


def registers(rail, watts):
    """The register words that show this power, and what they amount to in watts.

    The current goes in steps (8 mA for an INA3221 over 5 mOhm), so the voltage is moved by up to
    3 % where that comes nearer to the wanted power.
    """
    address = rail["address"]
    if rail["chip"] == "ina3221":
        return _ina3221(rail, address, watts)
    return _ina2xx(rail, address, watts)


def _ina3221(rail, address, watts):
    step_a = 40 / rail["shunt_uohm"]
    volts_steps, amperes_steps = _nearest(watts, rail["volts"], 0.008, step_a)
    channel = rail["channel"]
    words = [
        (address, 2 * channel, volts_steps << 3),
        (address, 2 * channel - 1, (amperes_steps << 3) & 0xFFFF),
        (address, 0x0F, 1),  # conversion ready, else the driver times out
    ]
    # The driver gives whole milliamperes (DIV_ROUND_CLOSEST).
    milliamperes = round(amperes_steps * 40_000 / rail["shunt_uohm"])
    return words, volts_steps * 8 * milliamperes / 1e6


def _ina2xx(rail, address, watts):
    kind = _INA2XX[rail["chip"]]
    current_lsb_ua = round(round(1e9 / kind["divisor"]) / rail["shunt_uohm"])
    power_lsb_uw = kind["factor"] * current_lsb_ua
    power = round(watts * 1e6 / power_lsb_uw)
    shown = power * power_lsb_uw / 1e6
    amperes = shown / rail["volts"]
    bus = round(rail["volts"] * 1e6 / kind["bus_uv"]) << kind["bus_shift"]
    shunt = round(amperes * rail["shunt_uohm"] * 1000 / kind["shunt_nv"])
    words = [
        (address, 1, shunt & 0xFFFF),
        (address, 2, bus),
        (address, 3, power),
        (address, 4, round(amperes * 1e6 / current_lsb_ua) & 0xFFFF),
        (address, 5, 0x0800 if rail["chip"] == "ina226" else 0x1000),
    ]
    return words, shown


def _nearest(watts, volts, volt_step, ampere_step):
    """Whole steps of voltage and current whose product is nearest to ``watts``."""
    best = (abs(watts), round(volts / volt_step), 0)
    middle = round(watts / volts / ampere_step)
    for amperes in range(max(1, middle - 8), middle + 9):
        wanted = watts / (amperes * ampere_step)
        limits = volts * (1 - _VOLTAGE_SLACK), volts * (1 + _VOLTAGE_SLACK)
        steps = round(min(max(wanted, limits[0]), limits[1]) / volt_step)
        error = abs(steps * volt_step * amperes * ampere_step - watts)
        if error < best[0] - 1e-9:
            best = (error, steps, amperes)
    return best[1], best[2]
