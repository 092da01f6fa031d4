"""Lists of tags, repositories and referrers: whole, in pages, and the last page."""

from __future__ import annotations

from attrs import evolve
from content import REFERRERS, Scale, digest_of, repository_name, tag_name, tags_of
from loops import Loops
from measure import Workload
from stand import subject_of

PAGE = 1000
"""Referrers that one answer of ours has at most."""


def lists(loops: Loops) -> list[Workload]:
    """Every workload of lists."""
    scale = loops.scale
    found = [each for count in scale.tags for each in _tags(loops, count)]
    for count in scale.repositories:
        found += _catalog(loops, count)
    return found + _referrers(loops, scale)


def _tags(loops: Loops, count: int) -> list[Workload]:
    base = f"/v2/{tags_of(count)}/tags/list"
    names = [tag_name(number) for number in range(count)]
    middle = count // 2
    ways = {
        "whole": (base, names),
        "page of 100": (f"{base}?n=100&last={names[middle - 1]}", names[middle : middle + 100]),
        "last page": (f"{base}?n=100&last={names[-11]}", names[-10:]),
    }
    return [
        loops.listing(f"tags of {count}, {way}", path, "tags", right.__eq__, "main")
        for way, (path, right) in ways.items()
    ]


def _catalog(loops: Loops, count: int) -> list[Workload]:
    base = "/v2/_catalog"
    names = ["bench/app", *(repository_name(number) for number in range(count - 1))]
    ways = {
        "whole": (f"{base}?n={count + 1}", names),
        "page of 100": (f"{base}?n=100&last={names[count // 2]}", names[count // 2 + 1 :][:100]),
        "last page of 10": (f"{base}?n=10&last={names[-11]}", names[-10:]),
    }
    found = [
        loops.listing(
            f"catalog of {count}, {way}", path, "repositories", right.__eq__, f"catalog-{count}"
        )
        for way, (path, right) in ways.items()
    ]
    return [*found, loops.random_pages(count)]


def _referrers(loops: Loops, scale: Scale) -> list[Workload]:
    found = []
    for count in scale.referrers:
        digest = digest_of(subject_of(count).encode())
        listing = loops.listing(
            f"{count} referrers among {scale.manifests} manifests",
            f"/v2/{REFERRERS}/referrers/{digest}",
            "manifests",
            lambda entries, count=count: len(entries) == min(count, PAGE),  # type: ignore[misc]
            "referrers",
        )
        found.append(evolve(listing, peerless=True))
    return found
