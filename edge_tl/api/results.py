"""What the calls give back: figures, the document that the command prints, and a table or a page to look at."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_tl.api.show import show_page
from edge_tl.api.train_extra import train_extra
from edge_tl_runtime.core.html import html_table
from edge_tl_runtime.core.text import percent, shell_command
from edge_tl_runtime.machine.tune import BUSY, Measured, Tuning
from edge_tl_runtime.machine.tuning_profile import TunedChoice

if TYPE_CHECKING:
    from edge_tl.audit.check import Findings
    from edge_tl_runtime.bench.pack.documents import PackSummaryDocument
    from edge_tl_runtime.inference.classifier import SessionSettings


@dataclass(frozen=True)
class AttackResult:
    """folder: with the document, the page and the adversarial pictures. document: what `edge-tl attack --json` prints."""

    folder: Path
    page: Path
    document: dict[str, Any] = field(repr=False)

    @property
    def clean_accuracy(self) -> float:
        """On the same photos, unchanged."""
        return float(self.document["clean_accuracy"]["rate"])

    @property
    def robust_accuracy(self) -> dict[float, float] | None:
        """By epsilon (/255 for linf): the part that no attack fooled. A sign of hidden gradients makes the figure worthless where
        many photos are left: these epsilons are left out, and there is None where none remains; `alarms` says which sign."""
        rates = self.document["robust_accuracy"]
        return None if rates is None else {float(radius): float(rate["rate"]) for radius, rate in rates.items()}

    @property
    def withheld(self) -> bool:
        return bool(self.document["withheld"])

    @property
    def alarms(self) -> tuple[str, ...]:
        """Each in a sentence."""
        return tuple(f"{alarm['name']}: {alarm['text']}. {alarm['explanation']}" for alarm in self.document["alarms"])

    @property
    def headline(self) -> str:
        return str(self.document["headline"])

    def show(self) -> Path:
        """Show the page, in a notebook or in the browser."""
        return show_page(self.page)

    def to_dict(self) -> dict[str, Any]:
        return self.document

    def __str__(self) -> str:
        return self.headline

    def _repr_html_(self) -> str:
        rates = {} if self.robust_accuracy is None else self.robust_accuracy
        title = " ".join([self.headline, *self.alarms, f"page: {self.page}"])
        return html_table(title, ["epsilon", "accuracy"], [(f"{e:g}", percent(rate)) for e, rate in rates.items()])


@dataclass(frozen=True)
class DataCheck:
    """What was found in a folder of photos. findings: all of it. page: with thumbnails."""

    findings: Findings = field(repr=False)
    page: Path

    @property
    def counts(self) -> dict[str, int]:
        """How many of each kind were found, worst kind first."""
        found = self.findings
        return {
            "the same photo in more than one part": len(found.leaks),
            "the same photo under two labels": len(found.contradictions),
            "labels to look at": len(found.suspects),
            "photos repeated at all": len(found.repeated),
            "tiny or odd pictures": len(found.odd),
            "files passed over": len(found.unreadable),
        }

    def show(self) -> Path:
        """Show the page, in a notebook or in the browser."""
        return show_page(self.page)

    def to_dict(self) -> dict[str, Any]:
        """What `edge-tl data check --json` prints."""
        return dict(self.findings.to_dict())

    def _repr_html_(self) -> str:
        return html_table(f"{self.findings.layout}; page: {self.page}", ["finding", "number"], self.counts.items())


@dataclass(frozen=True)
class BenchResult:
    """What a benchmark measured. path: the file that holds it. document: what `edge-tl bench --json` prints."""

    path: Path
    document: dict[str, Any] = field(repr=False)

    @property
    def latency_ms(self) -> float | None:
        """Median of one photo a call; None where it was not measured."""
        part = self.document["parts"].get("latency")
        return None if part is None else float(part["p50_ms"])

    @property
    def top1(self) -> float | None:
        """On the photos of the pack or the data; None without."""
        part = self.document["parts"].get("accuracy")
        return None if part is None else float(part["top1"]["rate"])

    def show(self) -> Path:
        """Write the page beside the result and show it, in a notebook or in the browser. Raises MissingPackage."""
        with train_extra("the page of a benchmark"):
            from edge_tl.report.bench.page import write_bench_page
        return show_page(write_bench_page(self.path, self.path.with_suffix(".html")))

    def to_dict(self) -> dict[str, Any]:
        return dict(self.document)

    def _repr_html_(self) -> str:
        from edge_tl_runtime.bench.summary import lines, tables

        shown = "".join(html_table(item.title, item.columns, item.rows) for item in tables(self.document))
        return f"<div>{shown}{''.join(html_table(line.text, [], []) for line in lines(self.document))}</div>"


@dataclass(frozen=True)
class PackResult:
    """What a pack holds. path: the file that goes to the device. document: what `edge-tl pack --json` prints."""

    path: Path
    document: PackSummaryDocument = field(repr=False)

    @property
    def photos(self) -> int:
        return int(self.document["photos"])

    def to_dict(self) -> dict[str, Any]:
        return dict(self.document)

    def table(self) -> tuple[str, list[str], list[list[str]]]:
        """Title, columns and rows: pictures stored of each attack, and the percentage of photos that it fools."""
        said, radii = self.document["workstation"], [f"{radius:g}" for radius in self.document["epsilons"]]
        rows = []
        for stored, line in zip(self.document["stored"], said["attacks"], strict=True):
            route = f", {stored['route']}" if stored["route"] else ""
            fooled = (f"{100 * (line['success'][radius]['rate'] or 0):.1f}" for radius in radii)
            rows.append([stored["attack"] + route, str(stored["pictures"]), *fooled])
        unit = "/255" if self.document["norm"] == "linf" else "L2"
        title = f"stored pictures, and the % of photos that each attack fools, by epsilon ({unit})"
        return title, ["", "stored", *radii], rows

    def _repr_html_(self) -> str:
        title, columns, rows = self.table()
        return html_table(f"{self.path}: {self.photos} photos; {title}", columns, rows)


@dataclass(frozen=True)
class DreamResult:
    """The pictures of classes. folder: with the pictures. document: what `edge-tl dream --json` prints."""

    folder: Path
    document: Mapping[str, Any] = field(repr=False)

    @property
    def pictures(self) -> dict[str, Path]:
        """By label."""
        return {item["label"]: self.folder / item["dream"]["picture"] for item in self.document["dreams"]}

    @property
    def confidence(self) -> dict[str, float]:
        """By label: what the file itself answers for the picture, read back."""
        return {item["label"]: float(item["dream"]["confidence"]) for item in self.document["dreams"]}

    def to_dict(self) -> dict[str, Any]:
        return dict(self.document)

    def _repr_html_(self) -> str:
        sure = self.confidence
        return "".join(
            html_table(f"{label}: {percent(sure[label])}", [], [])
            + f'<img src="data:image/png;base64,{base64.b64encode(path.read_bytes()).decode("ascii")}">'
            for label, path in self.pictures.items()
        )


@dataclass(frozen=True)
class TuneResult:
    """What was measured, and the profile that holds the fastest settings. path: of the profile, beside the model file."""

    path: Path
    tuning: Tuning = field(repr=False)

    @property
    def settings(self) -> SessionSettings:
        """The fastest for the frames of a camera."""
        return self.tuning.profile.frame.settings

    def to_dict(self) -> dict[str, Any]:
        """What `edge-tl tune --json` prints."""
        return dict(self.tuning.to_dict())

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Columns and rows of every configuration."""
        columns = [
            "file",
            "provider",
            "threads",
            "spin",
            "ms a frame",
            "CPU ms a frame",
            "ms in a row",
            "ms in batches",
        ]
        return [*columns, ""], [_row(found, self.tuning.profile.batch_size) for found in self.tuning.measured]

    def lines(self) -> list[str]:
        """The fastest settings for frames of a camera, for frames in a row and for batches."""
        profile = self.tuning.profile
        return [
            f"frames of a camera: {_describe(profile.frame, 1, 'frame')}",
            f"frames in a row: {_describe(profile.row, 1, 'frame')}",
            f"batches of {profile.batch_size}: {_describe(profile.batch, profile.batch_size, 'photo')}",
            f"measured in {self.tuning.seconds:.0f} s; run and predict follow the profile {self.path}",
        ]

    def warnings(self) -> list[str]:
        """That the figures are doubtful, and that another file is faster."""
        found = []
        if self.tuning.others > BUSY:
            taken = percent(self.tuning.others)
            found.append(f"other programs took {taken} of the processor meanwhile; tune again when the machine is idle")
        for path, factor in self.tuning.faster[:1]:
            advice = f"use it if its accuracy is enough: {shell_command('tune', path)}"
            found.append(f"{path.name} is {factor:.1f}x as fast; {advice}")
        return found

    def _repr_html_(self) -> str:
        return html_table(" ".join([*self.lines(), *self.warnings()]), *self.table())


def _row(measured: Measured, photos: int) -> list[str]:
    frame, row, batch, settings = measured.frame, measured.row, measured.batch, measured.settings
    return [
        measured.file,
        settings.provider,
        str(settings.threads or "-"),
        "yes" if settings.spin else "",
        "" if frame is None else f"{frame.median_ms:.2f}",
        "" if frame is None else f"{frame.cpu_ms:.2f}",
        "" if row is None else f"{row.median_ms:.2f}",
        "" if batch is None else f"{batch.median_ms / photos:.2f}",
        measured.note,
    ]


def _describe(choice: TunedChoice, photos: int, unit: str) -> str:
    return f"{choice.settings}: {choice.median_ms / photos:.2f} ms a {unit}, {choice.cpu_ms / photos:.2f} ms of processor time"
