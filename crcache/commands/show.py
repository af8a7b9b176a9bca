"""C{crcache show}: all that is known of one image."""

from __future__ import annotations

import argparse
import time
from typing import Any

from crcache.commands import output, place
from crcache.commands.ls import describe
from crcache.commands.outcome import DONE
from crcache.commands.references import reference_argument
from crcache.commands.selection import one
from crcache.facts import Fetched
from crcache.grammar.digest import Digest
from crcache.inventory.contents import find
from crcache.inventory.images import Image, Images
from crcache.inventory.problems import Problems
from crcache.inventory.repositories import Home
from crcache.inventory.survey import Survey, Variant, survey
from crcache.store.layout import Layout

NAME = "show"
HELP = "show all that is known of one image"

_CAME = {Fetched.NEVER: "named by a manifest", Fetched.PRIVATELY: "fetched privately", Fetched.OPENLY: "fetched openly"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    parser.description = (
        "Show an image's digest, its platforms with their manifests, its layers and whether each is here, which other"
        " repositories have them, where they came from, when it was last used, and whether it is pinned or private."
    )
    parser.add_argument("reference", metavar="REF", type=reference_argument, help="the image")
    place.add_arguments(parser)
    output.add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Show it.

    @raise CrcacheError: if it is not in the cache, or that cannot be read.
    """
    layout, problems = place.open_cache(arguments), Problems()
    images = Images(layout, problems)
    image = one(images, arguments.reference)
    report = _report(layout, images, survey(images, image))
    if arguments.json:
        output.print_json(report)
    else:
        _tell(report, image)
    output.tell(problems)
    return DONE


def _report(layout: Layout, images: Images, surveyed: Survey) -> dict[str, Any]:
    image = surveyed.image
    parts = {part.descriptor.digest for variant in surveyed.variants for part in variant.parts} | {image.digest}
    sharers = _sharers(images, image.home, parts)
    held = find(layout, image.digest)
    return {
        **describe(surveyed, images.repositories.privacy(image.home) is not None),
        "size": None if held is None else held.size,
        "origin": _origin(images, image.home, image.digest),
        "sharedWith": sharers.get(image.digest, []),
        "variants": [_variant(images, image, variant, sharers) for variant in surveyed.variants],
    }


def _sharers(images: Images, own: Home, digests: set[Digest]) -> dict[Digest, list[str]]:
    """Which other repositories hold each of these."""
    found: dict[Digest, list[str]] = {}
    for home in images.repositories.homes():
        if home != own:
            for digest in digests:
                if images.repositories.holds(home, digest):
                    found.setdefault(digest, []).append(str(home))
    return found


def _origin(images: Images, home: Home, digest: Digest) -> dict[str, Any] | None:
    member = images.repositories.member(home, digest)
    if member is None:
        return None
    membership, _ = member
    return {
        "came": _CAME[membership.fetched],
        "open": membership.open,
        "since": output.moment(membership.since),
    }


def _variant(images: Images, image: Image, variant: Variant, sharers: dict[Digest, list[str]]) -> dict[str, Any]:
    created = None
    parts = []
    for part in variant.parts:
        digest = part.descriptor.digest
        if part.kind == "config" and part.here is not None:
            said = images.manifests.config(digest).get("created")
            created = said if isinstance(said, str) and said.isprintable() and len(said) <= 64 else None
        parts.append(
            {
                "kind": part.kind,
                "digest": str(digest),
                "mediaType": part.descriptor.media_type,
                "size": part.descriptor.size if part.here is None else part.here,
                "here": part.here is not None,
                "elsewhere": part.elsewhere,
                "origin": _origin(images, image.home, digest),
                "sharedWith": sharers.get(digest, []),
            }
        )
    return {
        "platform": None if variant.platform is None else str(variant.platform),
        "digest": str(variant.digest),
        "complete": variant.complete,
        "attestation": variant.aside,
        "created": created,
        "parts": parts,
    }


def _tell(report: dict[str, Any], image: Image) -> None:
    now = time.time()
    came = report["origin"]
    lines = [
        ("image", report["name"]),
        ("digest", report["digest"]),
        ("media type", report["mediaType"] or "?"),
        ("here", output.size(report["here"])),
        ("missing", "nothing" if report["complete"] else output.size(report["missing"])),
        ("came", "?" if came is None else f"{came['came']}, since {came['since']}"),
        ("tag checked", _ago(image.checked, now)),
        ("last used", _ago(image.used, now)),
        ("pinned", "yes" if report["pinned"] else "no"),
        ("private", "yes" if report["private"] else "no"),
        ("also in", ", ".join(report["sharedWith"]) or "no other repository"),
    ]
    for name, value in lines:
        print(f"{name + ':':<13}{value}")
    for variant in report["variants"]:
        what = variant["platform"] or ("attestation" if variant["attestation"] else "?")
        made = f", created {variant['created']}" if variant["created"] else ""
        print(f"\n{what}{made}")
        if len(variant["parts"]) == 1 and not variant["parts"][0]["here"]:
            print(f"  not here: {variant['digest']}")
            continue
        rows = [
            (
                f"  {part['kind']}",
                part["digest"],
                output.size(part["size"]),
                "here" if part["here"] else "elsewhere" if part["elsewhere"] else "missing",
                f"also in {', '.join(part['sharedWith'])}" if part["sharedWith"] else "",
            )
            for part in variant["parts"]
        ]
        output.table(("  PART", "DIGEST", "SIZE", "STATE", "SHARED"), rows, frozenset({"SIZE"}))


def _ago(then: float | None, now: float) -> str:
    return "never, as far as is known" if then is None else f"{output.age(then, now)} ago"
