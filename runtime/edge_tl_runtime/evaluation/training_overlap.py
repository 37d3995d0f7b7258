"""Evaluation photos that a model has seen: they are left out, or counted and named, so that no figure hides them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edge_tl_runtime.core.errors import BadFrame, BadImage, DataError
from edge_tl_runtime.core.text import plural
from edge_tl_runtime.core.threads import map_in_order
from edge_tl_runtime.images.datasets.dataset import LabelledPhotos
from edge_tl_runtime.images.decode import decode_photo, read_file
from edge_tl_runtime.images.fingerprint import ROLES, Role, SeenPhotos
from edge_tl_runtime.modelfile.spec import ModelSpec

if TYPE_CHECKING:
    from edge_tl_runtime.evaluation.documents import ByRole, OverlapDocument

NAMED = 3
"""Photos that a line names; a document names MANY."""
MANY = 20

Choose = Callable[[LabelledPhotos], LabelledPhotos]
"""Takes some of the photos, the same ones every time."""


@dataclass(frozen=True, slots=True)
class TrainingOverlap:
    """Which photos of an evaluation the model has seen in training or validation.

    unknown: why that is not known, "" where it is. listed, copies: shares of its training photos of which the file, and a
    copy, would be recognised, in [0, 1]. left_out: names of photos that it was trained on and that were not used. counts: photos
    used, and correct: those of them it got right, by role; correct is {} where that was not asked.
    """

    unknown: str = ""
    listed: float = 1.0
    copies: float = 1.0
    left_out: tuple[str, ...] = ()
    counts: Mapping[Role, int] = field(default_factory=dict)
    correct: Mapping[Role, int] = field(default_factory=dict)

    @property
    def n(self) -> int:
        return sum(self.counts.values())

    def in_words(self, split: str, name: str) -> str:
        """What was evaluated on: `val of pets`, `all of pets, TRAINING PHOTOS: 245 of 398`."""
        trained, chosen = self.counts.get("trained_on", 0), self.counts.get("validation", 0)
        if split == "all" and self.n and chosen == self.n:
            split = "val"
        base = f"{split} of {name}"
        if trained:
            return f"{base}, TRAINING PHOTOS: {trained} of {self.n}"
        if self.left_out and split == "all":
            return f"{name} without {len(self.left_out)} photos the model was trained on"
        return base

    def lines(self) -> list[str]:
        """What a person must know to read the figure, a line each."""
        trained, chosen = self.counts.get("trained_on", 0), self.counts.get("validation", 0)
        said = []
        if self.unknown:
            said.append(
                f"nothing is known of the photos this model was trained on ({self.unknown}): make sure that these are others"
            )
        if trained:
            share = f"all {self.n}" if trained == self.n else f"{trained} of {self.n}"
            said.append(f"TRAINING PHOTOS: the model was trained on {share}; this says nothing of new photos")
        if chosen:
            share = f"all {self.n}" if chosen == self.n else f"{chosen} of {self.n}"
            said.append(
                f"{share} are validation photos, which chose the model's recipe and temperature; "
                "for an unbiased figure use photos it has never seen"
            )
        if self.correct and sum(count > 0 for count in self.counts.values()) > 1:
            rates = (
                f"{_WORDS[role]} {100 * self.correct[role] / n:.1f} % of {n}"
                for role in ROLES
                if (n := self.counts[role])
            )
            said.append(f"top-1 apart: {', '.join(rates)}")
        if not self.unknown and self.listed < 1:
            found = len(self.left_out) + trained
            more = f"{found} found, about {round(found * (1 / self.listed - 1))} more" if found else "none found"
            said.append(f"the model lists {100 * self.listed:.0f} % of its training photos, drawn by chance: {more}")
        return said

    def left_out_line(self, otherwise: str = "; --split all evaluates them too") -> str:
        """`left out 245 photos the model was trained on: ...`, "" where there are none. otherwise: what can be done about it."""
        if not self.left_out:
            return ""
        count = len(self.left_out)
        more = f" and {count - NAMED} more" if count > NAMED else ""
        return (
            f"left out {plural(count, 'photo')} the model was trained on: "
            f"{', '.join(self.left_out[:NAMED])}{more}{otherwise}"
        )

    def to_dict(self) -> OverlapDocument:
        return {
            "known": not self.unknown,
            "why_unknown": self.unknown,
            "listed": round(self.listed, 6),
            "copies_listed": round(self.copies, 6),
            "left_out": len(self.left_out),
            "left_out_names": list(self.left_out[:MANY]),
            "photos": _by_role(lambda role: None if self.unknown else self.counts.get(role, 0)),
            "top1": _by_role(self._top1),
        }

    def _top1(self, role: Role) -> float | None:
        n = self.counts.get(role, 0)
        return round(self.correct[role] / n, 6) if self.correct and n else None

    def without(self, photos: LabelledPhotos) -> LabelledPhotos:
        """The photos that were not left out."""
        gone = set(self.left_out)
        kept = [place for place in range(len(photos)) if photos.name(place) not in gone]
        return photos if len(kept) == len(photos) else photos.subset(kept, photos.split)


_WORDS: dict[Role, str] = {"trained_on": "trained on", "validation": "validation", "new": "new"}


def _by_role(figure: Callable[[Role], float | None]) -> ByRole:
    return {"trained_on": figure("trained_on"), "validation": figure("validation"), "new": figure("new")}


def what_is_known(spec: ModelSpec) -> TrainingOverlap:
    """An overlap with nothing counted yet."""
    images = spec.training_images
    if images is None:
        if "train_photos" not in spec.training:
            return TrainingOverlap("it was not trained by edge-tl", 0.0, 0.0)
        old = "made by an older release; train and export it again" if spec.version == 1 else "its file has no list"
        return TrainingOverlap(old, 0.0, 0.0)
    if not images.readable:
        return TrainingOverlap(f"listed by {images.method}, which this edge-tl does not know; upgrade it", 0.0, 0.0)
    return TrainingOverlap("", images.share_of_files, images.share_of_pictures)


ASK = ", or ask for the figure on training photos with --split train"


def nothing_left(photos: LabelledPhotos, trained_on: int, otherwise: str = ASK) -> DataError:
    """Why there is nothing to evaluate on when all photos that can be read, `trained_on` of them, taught the model.

    otherwise: what else can be done.
    """
    unread = len(photos) - trained_on
    rest = f" ({unread} more could not be read)" if unread > 0 else ""
    return DataError(
        f"the model was trained on all {trained_on} photos of {photos.root}{rest}, and a figure on those says nothing; "
        f"give photos that it was not trained on{otherwise}"
    )


def unseen(
    photos: LabelledPhotos,
    spec: ModelSpec,
    split: str,
    choose: Choose = lambda photos: photos,
    otherwise: str = ASK,
) -> tuple[LabelledPhotos, TrainingOverlap]:
    """The photos that `choose` takes from those the model was not trained on, and which of them it has seen.

    split: "train" and "all" ask for training photos, which then stay. Photos are looked at as long as a chosen one has to be
    replaced, each once; one that cannot be read stays, for the caller to list. Raises DataError when none is left; otherwise:
    what else can be done then.
    """
    known = what_is_known(spec)
    seen = SeenPhotos.of(spec.training_images)
    if seen is None:
        chosen = choose(photos)
        return chosen, known
    roles: dict[Path, Role | None] = {}
    left_out: list[str] = []
    rest = photos
    while True:
        try:
            chosen = choose(rest)
        except DataError:
            if left_out:  # what is missing are photos that were left out
                raise nothing_left(photos, len(left_out), otherwise) from None
            raise
        unasked = [path for path in chosen.paths if path not in roles]
        roles.update(zip(unasked, map_in_order(lambda path: _role(path, seen), unasked), strict=True))
        trained = [place for place, path in enumerate(chosen.paths) if roles[path] == "trained_on"]
        if not trained or asks_for_training_photos(split):
            break
        left_out += [chosen.name(place) for place in trained]
        gone = {chosen.paths[place] for place in trained}
        kept = [place for place, path in enumerate(rest.paths) if path not in gone]
        if not kept:
            raise nothing_left(photos, len(left_out), otherwise)
        rest = rest.subset(kept, rest.split)
    counts = counted([role for path in chosen.paths if (role := roles[path]) is not None])
    return chosen, TrainingOverlap("", known.listed, known.copies, tuple(left_out), counts)


def asks_for_training_photos(split: str) -> bool:
    """Whether a part of the data is one that a person chooses to see the training photos."""
    return split in ("train", "all")


def counted(roles: Sequence[Role]) -> dict[Role, int]:
    """How many photos have each role."""
    return {role: roles.count(role) for role in ROLES}


def _role(path: Path, seen: SeenPhotos) -> Role | None:
    """None for a photo that cannot be read: it is none of those that a figure counts."""
    try:
        data = read_file(path)
        return seen.role_of_file(data) or seen.role_of_picture(decode_photo(data))
    except (BadImage, BadFrame):
        return None
