"""The page of a data check, with thumbnails."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from pathlib import Path

from edge_tl.audit.check import UNEVEN, Findings, Photo
from edge_tl.report.common.html import picture, render
from edge_tl_runtime.core.files import write_text
from edge_tl_runtime.core.statistics import wilson
from edge_tl_runtime.images.crop import crop_resize
from edge_tl_runtime.images.datasets.tally import shown_path
from edge_tl_runtime.images.decode import read_photo
from edge_tl_runtime.modelfile.spec import ResizeRule

LIMIT = 60
"""Cards a section shows."""
THUMBNAIL = 156
SAMPLE = ResizeRule(height=96, width=96, crop_pct=1.0, resample="area-linear", color_order="BGR")
MOST_SHEETS = 240
"""Classes whose photos are shown; the rest are in the table."""


def write_data_page(found: Findings, target: Path) -> Path:
    """Write the findings to `target`. Raises OutputError."""

    @cache
    def thumb(photo: Photo) -> str:
        return picture(read_photo(photo.path), THUMBNAIL)

    @cache
    def sample(photo: Photo) -> str:
        """As the network sees it: cropped and resized by the rule that training uses."""
        return picture(crop_resize(read_photo(photo.path), SAMPLE), SAMPLE.height)

    others = [group for group in found.repeated if not group.leaks and not group.contradicts]
    tiles = [
        (found.used, "photos used"),
        (len(found.leaks), "in more than one part"),
        (len(found.contradictions), "under two labels"),
        (len(found.suspects), "labels to look at"),
        (len(others), "repeated within a part"),
        (len(found.odd), "tiny or odd photos"),
        (len(found.unreadable), "files passed over"),
    ]
    page = render(
        "data.html.j2",
        version=version("edge-tl"),
        found=found,
        odd={item.photo: item.why for item in found.odd},
        shown_path=shown_path,
        others=others,
        held_out=wilson((found.held_out or 0) * found.used, found.used),
        tiles=tiles,
        thumb=thumb,
        sample=sample,
        shown=dict(list(found.examples.items())[:MOST_SHEETS]),
        limit=LIMIT,
        uneven=UNEVEN,
    )
    write_text(target, page)
    return target
