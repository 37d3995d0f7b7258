"""Looking at photos before they are trained on, as one call."""

from __future__ import annotations

import os
from pathlib import Path

from edge_tl.api.reporter import Reporter, reporter
from edge_tl.api.results import DataCheck
from edge_tl.api.settings import PathLike
from edge_tl.api.train_extra import train_extra
from edge_tl.audit.settings import CheckSettings


def check(
    photos: PathLike,
    page: PathLike = CheckSettings.page,
    *,
    arch: str = CheckSettings.arch,
    weights: str = CheckSettings.weights,
    device: str = CheckSettings.device,
    progress: bool | Reporter = False,
) -> DataCheck:
    """Find leaks, repeated photos, doubtful labels and bad files; as `edge-tl data check`.

    page: the file for it. arch, weights: of the backbone whose features look at the labels.
    Raises DataError, UsageError, WeightsError, OutputError, MissingPackage.
    """
    report = reporter(progress)
    with train_extra("check"):
        from edge_tl.audit.check import check as findings_of
        from edge_tl.data.named import resolve
        from edge_tl.report.data.page import write_data_page
        from edge_tl.training.devices import pick_device
    root = resolve(os.fspath(photos), report.stage, report.say)
    found = findings_of(root, arch, weights, report.stage, pick_device(device), report.say)
    return DataCheck(found, write_data_page(found, Path(page)))
