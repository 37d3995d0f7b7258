"""One folder split for ever: the same photos on every machine, by names and seed alone, with groups kept together."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from edge_tl_runtime.core.errors import DataError
from edge_tl_runtime.core.text import one_line
from edge_tl_runtime.images.datasets.grouping import AUTO, BY_NAME, NONE, Grouping, mark, together
from edge_tl_runtime.images.datasets.labelled import LabelledPhotos, Splits
from edge_tl_runtime.images.datasets.labels import clean_label
from edge_tl_runtime.images.datasets.origins import origins

Finder = Callable[[LabelledPhotos], Sequence[str]]
"""Gives each photo a key, equal for photos that look alike: what the device cannot do, since it takes a look at all of them."""


class Places(NamedTuple):
    """Places of the photos of each part, ascending."""

    train: list[int]
    val: list[int]
    test: list[int]


def split_places(
    names: Sequence[str],
    targets: Sequence[int],
    groups: Sequence[str],
    fractions: tuple[float, float],
    seed: int,
) -> Places:
    """Split by class (stratified) as well as the groups allow. fractions: of each class, for validation and for the test.

    names: identities across machines; a photo alone in its group has its name as the group. Of n photos of a class,
    max(1, round(n * fraction)) are wanted in each part. Groups come in the order of SHA-256 over seed and group: adding a photo
    moves few others, and a test part never moves the validation part. A group is taken while that brings the part nearer to what
    is wanted; a class left without gets its smallest group. Without groups a class's first photos are for validation, the next
    for the test. A set with one photo a class (an index) is split as a whole. A class of one group stays in train, so the caller
    must look.
    """
    if max(Counter(targets).values()) == 1:
        targets = [0] * len(targets)
    members: dict[str, list[int]] = {}
    for place, group in enumerate(groups):
        members.setdefault(group, []).append(place)
    ranked = sorted(members, key=lambda group: _rank(seed, group))
    classes = {group: Counter(targets[place] for place in members[group]) for group in ranked}
    left = Counter(target for target in targets)
    whole = dict(left)
    parts: list[list[int]] = []
    for fraction in fractions:
        wanted = {target: max(1, round(count * fraction)) if fraction else 0 for target, count in whole.items()}
        chosen = _take(ranked, classes, wanted, left)
        parts.append(sorted(place for group in chosen for place in members[group]))
        ranked = [group for group in ranked if group not in chosen]
    val, test = parts
    return Places(sorted(place for group in ranked for place in members[group]), val, test)


def _take(
    ranked: Sequence[str], classes: dict[str, Counter[int]], wanted: dict[int, int], left: Counter[int]
) -> set[str]:
    """Groups for one part; `left` is what stays of each class."""
    have: Counter[int] = Counter()
    chosen: set[str] = set()

    def take(group: str) -> None:
        chosen.add(group)
        have.update(classes[group])
        left.subtract(classes[group])

    for group in ranked:
        content = classes[group]
        # The change of the squared distance to what is wanted; a single photo is taken as long as its class lacks one.
        nearer = sum(n * (2 * (have[target] - wanted[target]) + n) for target, n in content.items()) < 0
        if nearer and (sum(content.values()) == 1 or all(left[target] > n for target, n in content.items())):
            take(group)
    for target, count in wanted.items():
        if not count or have[target]:
            continue
        able = [
            group
            for group in ranked
            if group not in chosen and classes[group][target] and all(left[t] > n for t, n in classes[group].items())
        ]
        if able:
            take(min(able, key=lambda group: sum(classes[group].values())))
    return chosen


def _rank(seed: int, group: str) -> bytes:
    """Names are hashed in NFC: a folder that came through macOS is split as it was."""
    text = unicodedata.normalize("NFC", f"{seed}:{group}")
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def split_photos(photos: LabelledPhotos, val_fraction: float, seed: int) -> tuple[LabelledPhotos, LabelledPhotos]:
    """Split by class (stratified): of n photos of a class, max(1, round(n * val_fraction)) go to validation.

    The order is that of SHA-256 over seed and name: the same on every machine and Python, and adding a photo moves few others.
    A set with one photo a class (an index) is split as a whole.
    """
    train, val, _ = split_three(photos, photos.names, (val_fraction, 0.0), seed)
    return train, val


def split_as_trained(
    photos: LabelledPhotos, fraction: float, seed: int, grouping: Grouping
) -> tuple[LabelledPhotos, LabelledPhotos]:
    """The parts into which training split these photos. Raises DataError where the groups cannot be found again."""
    if grouping.method == AUTO and grouping.held_out is None:
        raise DataError(
            f"the model was trained on a split of {photos.root.name} by what photos look like, and its file holds no record of "
            "it: give a folder of photos that it was not trained on, or --split all"
        )
    if grouping.held_out is not None:
        parts: tuple[list[int], list[int]] = [], []
        for index, name in enumerate(photos.names):
            parts[mark(name) in grouping.held_out].append(index)
        if not parts[1]:
            raise DataError(
                f"{photos.root} holds none of the photos that were held out when the model was trained; if it holds others, "
                "give them under another folder name, or --split all"
            )
        return photos.subset(parts[0], "train"), photos.subset(parts[1], "val")
    keys, _ = group_keys(photos, grouping, None)
    train, val, _ = split_three(photos, keys, (fraction, 0.0), seed)
    return train, replace(val, skipped=photos.skipped)


def split_three(photos: LabelledPhotos, keys: Sequence[str], fractions: tuple[float, float], seed: int) -> Splits:
    """What was passed over stays with the training photos, so that it is counted once."""
    parts = split_places(photos.names, photos.targets, keys, fractions, seed)
    train, val, test = (photos.subset(places, name) for places, name in zip(parts, parts._fields, strict=True))
    return Splits(train, replace(val, skipped=()), replace(test, skipped=()))


def group_keys(photos: LabelledPhotos, grouping: Grouping, find_alike: Finder | None) -> tuple[list[str], str]:
    """The group of each photo, and a few words on the groups. Raises DataError for a column that is not there."""
    names, method = photos.names, grouping.method
    if method == NONE:
        return names, ""
    if method == BY_NAME:
        found, by = photo_origins(photos), "by name"
    elif method == AUTO:
        assert find_alike is not None
        found, by = list(find_alike(photos)), "by name and by what they look like"
    elif photos.groups:
        found, by = [key or name for key, name in zip(photos.groups, names, strict=True)], f"by the column {method}"
    else:
        raise DataError(
            f"{photos.root} has no column {method!r} to group by; --group takes a column of a list, by-name or auto"
        )
    keys = together(found, names)
    several = len(keys) - len(set(keys))
    if several:
        return keys, f"{len(set(keys))} groups {by} are kept together"
    return keys, "" if method == BY_NAME else f"no two photos belong together {by}"


def straddling(train: LabelledPhotos, val: LabelledPhotos, grouping: Grouping) -> str:
    """Words on groups that lie in both of two given parts; "" where there are none, as far as names or a column tell."""
    if grouping.method == NONE:
        return ""
    if train.groups or val.groups:
        sides, by = [set(part.groups) - {""} for part in (train, val)], f"by the column {grouping.method}"
    else:
        sides, by = [_named_origins(part) for part in (train, val)], "by name"
    shared = sides[0] & sides[1]
    if not shared:
        return ""
    verb = "group lies" if len(shared) == 1 else "groups lie"
    return (
        f"{len(shared)} {verb} in both train and val {by}, such as {one_line(min(shared), 40)}, so the figure flatters: move "
        "each to one side"
    )


def _named_origins(photos: LabelledPhotos) -> set[str]:
    """Origins that the names give; the whole name of a photo is none."""
    names = _below_class(photos)
    own = {name.rpartition("/")[2].rpartition(".")[0] for name in names}
    return {key for key in photo_origins(photos) if key not in own} - set(names)


def photo_origins(photos: LabelledPhotos) -> list[str]:
    """What the name of each photo says of its origin, see `images.datasets.origins`."""
    return origins(_below_class(photos), photos.targets, photos.labels)


def _below_class(photos: LabelledPhotos) -> list[str]:
    """Names without the folders down to that of the class."""
    found = []
    for name, target in zip(photos.names, photos.targets, strict=True):
        parts = name.split("/")
        at = next((i for i, part in enumerate(parts[:-1]) if clean_label(part) == photos.labels[target]), -1)
        found.append("/".join(parts[at + 1 :]))
    return found


def refuse_lacking(
    root: Path, whole: LabelledPhotos, parts: Iterable[LabelledPhotos | None], keys: Sequence[str], group: str
) -> None:
    """Raises DataError for a class of `whole` that one of the parts has no photo of, with the reason. keys: their groups."""
    for index, label in enumerate(whole.labels):
        if all(part is None or index in part.targets for part in parts):
            continue
        count = whole.targets.count(index)
        own = {key for key, target in zip(keys, whole.targets, strict=True) if target == index}
        if len(own) == 1 and count > 1:
            raise DataError(
                f"the {count} photos of class {label!r} in {root} are one group ({one_line(next(iter(own)), 60)}), and training "
                "and validation need one each; add photos of another origin, give a val folder, or train with --group none"
            )
        found = "only one photo" if count == 1 else "too few photos" if group == NONE else "too few groups of photos"
        raise DataError(f"class {label!r} in {root} has {found}; training and validation need one each")
