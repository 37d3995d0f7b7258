"""What a benchmark is made of: parts that measure one thing each, in pieces that a power cut cannot take away."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from edge_tl_runtime.bench.settings import BenchSettings
from edge_tl_runtime.images.datasets.dataset import LabelledPhotos
from edge_tl_runtime.inference.classifier import Classifier

if TYPE_CHECKING:
    from edge_tl_runtime.bench.pack.pack import Pack

Document = dict[str, Any]


class Ledger(Protocol):
    """What was measured so far, by name, as JSON documents on disk."""

    def get(self, name: str) -> Document | None:
        """What was stored under a name; None when there is none or it is damaged."""

    def put(self, name: str, document: Mapping[str, Any]) -> None:
        """Store what was measured, durably."""


@dataclass(frozen=True)
class Bench:
    """Everything a part may use.

    classifier: the opened file; its `logits` answer. pack: None without one. photos: labelled photos given instead of a
    pack; None without. stop: True once the time budget is spent. progress: called with the number of pieces just done.
    """

    model: Path
    classifier: Classifier
    settings: BenchSettings
    pack: Pack | None
    photos: LabelledPhotos | None
    ledger: Ledger
    stop: Callable[[], bool]
    progress: Callable[[int], None]


class Part(ABC):
    """One thing to measure. name: of its document in the result; title: for a person who watches."""

    name: ClassVar[str]
    title: ClassVar[str]

    def absent(self, bench: Bench) -> str:
        """Why it cannot be measured here, or is not wanted; "" when it is."""
        return ""

    @abstractmethod
    def pieces(self, bench: Bench) -> int:
        """How many times `progress` will be told of a piece."""

    @abstractmethod
    def run(self, bench: Bench) -> Mapping[str, Any]:
        """Measure. A long part stores each piece in the ledger and takes from it what is there already, then looks at `stop`
        before the next; its document says `"complete": False` where the time ended first. The same pieces give the same
        document, in however many sittings they were measured."""
