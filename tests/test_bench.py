"""What a benchmark reads from clocks and sensors, and what may be asked of it."""

from __future__ import annotations

import math
import statistics
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stopwatch import Stopwatch

from edge_tl_runtime.bench import energy
from edge_tl_runtime.bench.conditions import Watch, conditions
from edge_tl_runtime.bench.energy import EnergyMeter
from edge_tl_runtime.bench.parts.timing import Timings, drift, single_stream, theil_sen
from edge_tl_runtime.bench.settings import QUICK, BenchSettings
from edge_tl_runtime.core.errors import UsageError


def timings(ms: object, gap_ms: float = 0.0) -> Timings:
    took = (np.asarray(ms, float) * 1e6).astype(np.int64)
    begins = np.concatenate([[0], np.cumsum(took + int(gap_ms * 1e6))[:-1]]).astype(np.int64)
    return Timings(begins, took)


# Figures of single queries


@given(st.lists(st.floats(0.01, 1e4), min_size=2, max_size=300))
def test_percentiles_jitter_and_rate_are_those_of_the_standard_library(ms):
    ms = [int(1e6 * value) / 1e6 for value in ms]
    found = timings(ms).to_dict()
    hundredths = statistics.quantiles(ms, n=100, method="inclusive")
    for rank in (50, 90, 95, 99):
        assert found[f"p{rank}_ms"] == pytest.approx(hundredths[rank - 1], abs=1e-4)
    assert found["jitter_ms"] == pytest.approx(hundredths[98] - hundredths[49], abs=1e-4)
    assert found["iqr_ms"] == pytest.approx(hundredths[74] - hundredths[24], abs=1e-4)
    assert found["std_ms"] == pytest.approx(statistics.pstdev(ms), abs=1e-4)
    assert found["mean_ms"] == pytest.approx(statistics.fmean(ms), abs=1e-4)
    assert found["queries_per_second"] == pytest.approx(1e3 * len(ms) / sum(ms), rel=1e-3, abs=1e-3)
    assert (found["least_ms"], found["most_ms"]) == (round(min(ms), 4), round(max(ms), 4))


def test_a_single_stream_meets_both_bounds_and_asks_every_item_in_turn():
    asked: list[int] = []
    found = single_stream(asked.append, range(7), 10_000, 0.0)
    assert len(found.took) == len(asked) == 10_000
    assert asked == [index % 7 for index in range(10_000)]
    found = single_stream(lambda _: time.sleep(0.002), [None], 5, 0.2)
    assert found.seconds >= 0.2
    assert 5 <= len(found.took) <= 100
    assert found.took.min() >= 2_000_000
    assert (np.diff(found.begins) >= found.took[:-1]).all()


def test_a_stream_stops_within_a_second_and_says_it_is_not_complete():
    told: list[int] = []
    watch = Stopwatch()
    found = single_stream(lambda _: time.sleep(0.001), [None], 1, 60.0, lambda: True, told.append)
    assert watch.passed() > 0.9
    assert watch.quiet() < 3
    assert not found.complete


def test_progress_adds_up_to_the_seconds():
    told: list[int] = []
    single_stream(lambda _: time.sleep(0.001), [None], 1, 1.3, progress=told.append)
    assert sum(told) == 1


# Drift


@pytest.mark.parametrize("seed", range(5))
def test_the_slope_and_its_interval_are_those_of_another_library(seed):
    from scipy.stats import theilslopes

    rng = np.random.default_rng(seed)
    values = 10 + rng.normal(0, 1, 60) + 0.05 * np.arange(60)
    slope, low, high = theil_sen(values)
    expected = theilslopes(values, alpha=0.95)
    assert slope == pytest.approx(expected.slope)
    assert (low, high) == pytest.approx((expected.low_slope, expected.high_slope), rel=0.02)


@pytest.mark.parametrize(("rise", "slowed"), [(0.0, False), (0.01, False), (0.2, True), (-0.2, False)])
def test_a_rise_of_the_latency_is_told_from_noise(rise, slowed):
    rng = np.random.default_rng(0)
    n = 6000
    ms = 10 * (1 + rise * np.linspace(0, 1, n)) + np.abs(rng.normal(0, 0.5, n))
    found = drift(timings(ms))
    assert found["slowed"] is slowed
    assert found["windows"] == len(found["p50_ms"]) == int(ms.sum() / 1e3)
    assert found["change"] == pytest.approx(rise * 0.9, abs=0.02)
    if rise:
        low, high = found["ms_per_minute_ci95"]
        assert (low > 0) == (rise > 0)
        assert low <= found["ms_per_minute"] <= high


def test_a_slow_end_alone_is_no_trend():
    ms = np.full(6000, 10.0)
    ms[::2] = np.random.default_rng(0).permutation(np.linspace(8, 12, 3000))
    ms[-400:] = 12.0
    found = drift(timings(ms))
    assert found["change"] > 0.1
    assert found["slowed"] is False


def test_a_short_run_says_that_its_drift_cannot_be_told():
    found = drift(timings([10.0] * 300))
    assert found["slowed"] is None
    assert "3 windows of 1 s are too few" in found["why"]


def test_a_slow_model_gets_wider_windows():
    found = drift(timings([500.0] * 300))
    assert found["window_s"] == 5
    assert found["windows"] == 30


# Sensors


def tree(root: Path, files: dict[str, object]) -> Path:
    for name, value in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")
    return root


def rapl(root: Path, counter: int, name: str = "intel-rapl:0", label: str = "package-0") -> Path:
    folder = f"class/powercap/{name}"
    values = {"name": label, "energy_uj": counter, "max_energy_range_uj": 999_999_999}
    return tree(root, {f"{folder}/{key}": value for key, value in values.items()})


def test_a_counter_of_joules_is_read_past_its_overflow_and_parts_of_a_package_are_left_out(tmp_path):
    rapl(tmp_path, 999_000_000)
    rapl(tmp_path, 5, "intel-rapl:0:0", "core")
    rapl(tmp_path, 5, "intel-rapl:1", "psys")
    with EnergyMeter(tmp_path) as meter:
        rapl(tmp_path, 2_000_000)
        rapl(tmp_path, 999_000, "intel-rapl:0:0", "core")
        rapl(tmp_path, 999_000, "intel-rapl:1", "psys")
    found = meter.to_dict(30)
    assert found == {"joules": 3.0, "joules_per_query": 0.1, "sensors": {"RAPL package-0": 3.0}, "why": ""}


@pytest.mark.parametrize(
    "files", [{"power1_input": 4_000_000}, {"in1_input": 5_000, "curr1_input": 800}], ids=["microwatts", "mV and mA"]
)
def test_a_power_meter_is_summed_up_over_time(tmp_path, files):
    root = tree(tmp_path, {f"class/hwmon/hwmon2/{key}": value for key, value in {"name": "ina226", **files}.items()})
    tree(root, {"class/hwmon/hwmon1/name": "coretemp", "class/hwmon/hwmon1/power1_input": 10**9})
    started = time.monotonic()
    with EnergyMeter(root) as meter:
        time.sleep(0.5)
    seconds = time.monotonic() - started
    found = meter.to_dict(10)
    assert list(found["sensors"]) == ["INA226 hwmon2"]
    assert 0.5 * 4 <= found["joules"] <= seconds * 4


def test_energy_that_cannot_be_read_is_null_with_the_reason(tmp_path, monkeypatch):
    with EnergyMeter(tmp_path) as meter:
        pass
    found = meter.to_dict(1)
    assert found["joules"] is None
    assert "no sensor of energy" in found["why"]

    def refuse(path: Path) -> str:
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(path))
        return path.read_text().strip()

    monkeypatch.setattr(energy, "_text", refuse)
    with EnergyMeter(rapl(tmp_path, 7)) as meter:
        pass
    assert meter.to_dict(1)["why"].endswith("energy_uj may be read by the administrator alone")


def test_a_sensor_that_fails_meanwhile_gives_no_figure(tmp_path):
    with EnergyMeter(rapl(tmp_path, 7)) as meter:
        (tmp_path / "class/powercap/intel-rapl:0/energy_uj").write_text("garbage")
    found = meter.to_dict(1)
    assert found["joules"] is None
    assert "failed meanwhile" in found["why"]


def test_conditions_come_from_the_files_of_the_kernel(tmp_path):
    root = tree(
        tmp_path,
        {
            "class/thermal/thermal_zone0/temp": 48_300,
            "class/thermal/thermal_zone1/temp": 61_250,
            "devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": 600_000,
            "devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": 1_500_000,
            "devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand",
            "devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": 3,
            "devices/system/cpu/cpu1/thermal_throttle/core_throttle_count": 4,
            "devices/platform/soc/soc:firmware/get_throttled": "0x50005",
        },
    )
    expected = {"temperature_c": 61.2, "mhz": 1500, "governor": "ondemand", "throttled": True, "throttle_events": 7}
    assert conditions(root) == expected
    watch = Watch(root)
    tree(root, {"class/thermal/thermal_zone1/temp": 70_000})
    found = watch.to_dict()
    assert (found["before"]["temperature_c"], found["after"]["temperature_c"]) == (61.2, 70.0)
    assert 0 <= found["others"] <= 1


def test_a_machine_that_tells_nothing_gives_nulls(tmp_path):
    assert set(conditions(tmp_path).values()) == {None}


# Settings


@pytest.mark.parametrize(
    "wrong",
    [
        {"seconds": 0.0},
        {"seconds": math.nan},
        {"batches": "1,x"},
        {"batches": ""},
        {"batches": "0"},
        {"frame_size": "640"},
        {"epsilons": "300"},
        {"corruptions": "fgo"},
        {"severities": "6"},
        {"queries": 0},
        {"time_limit": -1.0},
    ],
    ids=str,
)
def test_a_wrong_setting_is_refused_before_anything_is_measured(wrong):
    with pytest.raises(UsageError):
        BenchSettings(**wrong)


def test_quick_takes_the_place_of_defaults_alone():
    short = BenchSettings(quick=True, queries=77).shortened()
    assert short.queries == 77
    assert all(getattr(short, name) == value for name, value in QUICK.items() if name != "queries")
    assert BenchSettings().shortened() == BenchSettings()


@pytest.mark.parametrize(
    ("asked", "quick", "stored", "expected"),
    [
        ("", False, (), (2, 4, 8)),
        ("", False, (1.0, 2.0), (1, 2)),
        ("", True, (1.0, 2.0), (2,)),
        ("", True, (), (4,)),
        ("", False, (0.5,), (2, 4, 8)),
        ("8,4", True, (1.0, 2.0), (4, 8)),
    ],
)
def test_square_takes_the_epsilons_of_the_stored_pictures(asked, quick, stored, expected):
    assert BenchSettings(epsilons=asked, quick=quick).shortened().comparable(stored).radii() == expected
