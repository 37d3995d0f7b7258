"""Parts of the contract that other documents repeat."""

from __future__ import annotations

from typing import Annotated, TypedDict

from msgspec import Meta

from edge_tl_runtime.core.documents import one_of
from edge_tl_runtime.modelfile.spec import COLOR_ORDERS, PRECISIONS

Precision = Annotated[str, one_of(PRECISIONS)]
Side = Annotated[int, Meta(ge=1, le=4096)]


class ResizeDocument(TypedDict):
    """From a frame to the pixels of the network: docs/contract.md."""

    height: Side
    width: Side
    crop_pct: Annotated[float, Meta(gt=0, le=1)]
    resample: str
    color_order: Annotated[str, one_of(COLOR_ORDERS)]
