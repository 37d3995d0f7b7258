"""Which photos are taken when fewer than all are wanted: one function for every command, so that their figures compare."""

from __future__ import annotations

from collections.abc import Sequence


def spread_over(targets: Sequence[int], count: int) -> list[int]:
    """Places of `count` photos spread over all classes and, within each, over all its photos; ascending, each once.

    targets: the class of each photo; -1 for those without, which are then one class. count: 0, or more than there are, takes all.
    A class gets its share of the photos, rounded, and at least one where there are places enough. With fewer places than classes,
    one photo of each of `count` classes that are spread over all of them. It depends on the order of the photos alone.

    >>> spread_over([0] * 6 + [1] * 3, 3)
    [1, 4, 7]
    """
    total = len(targets)
    if not count or count >= total:
        return list(range(total))
    classes: dict[int, list[int]] = {}
    for place, target in enumerate(targets):
        classes.setdefault(target, []).append(place)
    members = [classes[target] for target in sorted(classes)]
    if count < len(members):
        members = [members[at] for at in _middles(len(members), count)]
    shares = _shares([len(some) for some in members], count)
    return sorted(some[at] for some, share in zip(members, shares, strict=True) for at in _middles(len(some), share))


def _shares(sizes: Sequence[int], count: int) -> list[int]:
    """`count` places shared out in proportion to sizes, at least one each and never more than there are: largest remainders."""
    total = sum(sizes)
    shares = [max(1, size * count // total) for size in sizes]
    # What each share lacks of its due, in whole numbers: fractions would round differently elsewhere.
    while sum(shares) > count:
        at = max(
            (i for i in range(len(sizes)) if shares[i] > 1), key=lambda i: (shares[i] * total - sizes[i] * count, i)
        )
        shares[at] -= 1
    while sum(shares) < count:
        at = max(
            (i for i in range(len(sizes)) if shares[i] < sizes[i]),
            key=lambda i: (sizes[i] * count - shares[i] * total, -i),
        )
        shares[at] += 1
    return shares


def _middles(total: int, count: int) -> list[int]:
    """The middle one of each of `count` equal stretches of `total` places."""
    return [(2 * at + 1) * total // (2 * count) for at in range(count)]
