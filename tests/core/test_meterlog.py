"""Meters' files, in the forms that loggers write."""

import numpy as np
import pytest

from edgeq.core import meterlog

UNIX = 1_795_000_000.0  # 2026-11-18 11:06:40 UTC


def table(text):
    return meterlog.steady(meterlog.read_csv(text))


@pytest.mark.parametrize(
    ("header", "row", "expected"),
    [
        ("time_s,power_w", f"{UNIX},5.25", 5.25),
        ("timestamp,power_mw", f"{UNIX * 1e3},5250", 5.25),
        ("Timestamp (ms);Power [mW]", f"{UNIX * 1e3:.0f};5250,0", 5.25),
        ("time_us\tWatts", f"{UNIX * 1e6:.0f}\t5.25", 5.25),
        ("unix_time_ns,power_uW", f"{UNIX * 1e9:.0f},5250000", 5.25),
        ("# epoch_s,voltage_v,current_a", f"{UNIX},5.0,1.05", 5.25),
        ("Time(s),Voltage(V),Current(mA)", f"{UNIX},5.0,1050", 5.25),
        ("timestamp,bus_voltage_V,current_uA", f"{UNIX},5.0,1050000", 5.25),
        ("no,timestamp,note,volts,amps", f"1,{UNIX},a b,5.0,1.05", 5.25),
        ("datetime,power_w", "2026-11-18T11:06:40Z,5.25", 5.25),
        ("timestamp,power_w", "2026-11-18 12:06:40.000+01:00,5.25", 5.25),
        ("timestamp,power_w", "2026/11/18 11:06:40,5.25", 5.25),
        ("timestamp;power_w", "2026-11-18 11:06:40;5,25", 5.25),
    ],
)
def test_names_say_the_units(header, row, expected):
    found = table(f"{header}\r\n{row}\r\n")
    assert found.times_s == pytest.approx([UNIX])
    assert found.watts == pytest.approx([expected])
    assert found.zoned == ("/" not in row and not row.endswith(";5,25"))


def test_power_goes_before_voltage_and_current():
    found = table(f"time_s,voltage_v,current_a,power_w\n{UNIX},5,1,4.9\n")
    assert found.watts == pytest.approx([4.9])


def test_words_before_the_header_and_rows_without_values_are_passed_over():
    text = f"Logger 3.1\nserial,77\n\ntime_s,power_w\n{UNIX},\n{UNIX + 1},nan\n{UNIX + 2},7\nend\n"
    found = table(text)
    assert found.times_s == pytest.approx([UNIX + 2])
    assert found.watts == pytest.approx([7.0])


@pytest.mark.parametrize(
    "header", ["a,b", "time_s,power", "power_w,current_a", "time_s,voltage_v", "time_s,current_ma"]
)
def test_a_header_that_does_not_say_it_is_refused_with_the_names_that_are_known(header):
    with pytest.raises(ValueError, match="no header with time_s or timestamp, and power_w"):
        meterlog.read_csv(f"{header}\n1,2\n")


def test_a_clock_that_was_set_back_is_told():
    with pytest.raises(ValueError, match="its times run backwards at reading 3"):
        table(f"time_s,power_w\n{UNIX},1\n{UNIX + 2},1\n{UNIX + 1},1\n")


def test_a_moment_that_stands_twice_counts_once():
    found = table(f"time_s,power_w\n{UNIX},1\n{UNIX},3\n{UNIX + 1},2\n")
    assert list(found.watts) == [1.0, 2.0]


SPL = """\
Time,11-18-2026 11:06:40.250,Watts,12.30,Volts,229.9,Amps,0.11,PF,0.48,Mark,run_1
Time,11-18-2026 11:06:41.250,Watts,-1,Volts,229.9,Amps,0.11,PF,0.48,Mark,run_1
Time,11-18-2026 11:06:42.250,Watts,NaN,Volts,229.9,Amps,0.11,PF,0.48,Mark,run_1
Notes: the analyzer was moved
Time,11-18-2026 11:06:43.250,Watts,12.50,Volts,229.9,Amps,0.11,PF,0.48,Mark,notset
"""


def test_ptdaemons_log_is_read_line_by_line_with_minus_one_for_no_reading():
    found = meterlog.steady(meterlog.read_spl(SPL))
    assert found.times_s == pytest.approx([UNIX + 0.25, UNIX + 3.25])
    assert found.watts == pytest.approx([12.3, 12.5])
    assert not found.zoned


def test_what_is_no_ptdaemon_log_is_refused():
    with pytest.raises(ValueError, match="no line begins with Time, and has Watts"):
        meterlog.read_spl("time_s,power_w\n1,2\n")


def test_rows_keep_their_order_and_type():
    found = meterlog.read_csv(f"time_s,power_w\n{UNIX},1\n")
    assert found.times_s.dtype == found.watts.dtype == np.float64
