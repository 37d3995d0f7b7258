"""The fastest way to run a model file on this machine, as one call."""

from __future__ import annotations

from pathlib import Path

from edge_tl.api.reporter import Reporter, reporter
from edge_tl.api.results import TuneResult
from edge_tl.api.settings import PathLike, settings_of
from edge_tl_runtime.machine.settings import TuneSettings
from edge_tl_runtime.machine.tune import tune as measure
from edge_tl_runtime.machine.tuning_profile import require_writable, write_profile


def tune(model: PathLike, seconds: float = TuneSettings.seconds, *, progress: bool | Reporter = False) -> TuneResult:
    """Find the fastest settings for a model file and write them into a profile beside it; as `edge-tl tune`.

    A model that is loaded afterwards follows the profile. seconds: of measuring, in all; close other programs first.
    Raises BadModelError, OutputError, UsageError.
    """
    path, report = Path(model), reporter(progress)
    made = settings_of(TuneSettings, {"seconds": seconds}, "tune")
    if path.is_file():
        require_writable(path)
    with report.stage("tuning, seconds", int(made.seconds)) as done:
        tuning = measure(path, made.seconds, done)
    return TuneResult(write_profile(path, tuning.profile), tuning)
