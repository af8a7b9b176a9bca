"""Carries a plan out, beside daemons that go on serving."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from crcache.errors import StoreError
from crcache.eviction.tally import Tally
from crcache.grammar.reference import Tag
from crcache.inventory.plan import Plan
from crcache.inventory.problems import Problems
from crcache.inventory.repositories import mtime
from crcache.inventory.stock import Key, Stock, Unit, digest_of
from crcache.store.contents import unlink
from crcache.store.layout import Layout
from crcache.store.pins import Pins
from crcache.store.removal import forget_member, remove_content, tidy


@dataclass
class Done:
    """What has gone.

    @ivar content: of each piece of content, how many bytes.
    @ivar spared: what was to go, and has been used, or pinned, meanwhile.
    """

    units: list[Unit] = field(default_factory=list)
    content: dict[Key, int] = field(default_factory=dict)
    spared: list[Unit] = field(default_factory=list)


def carry_out(
    layout: Layout, stock: Stock, plan: Plan, problems: Problems, advance: Callable[[int], object] = lambda count: None
) -> Done:
    """Remove what the plan says, but for what has been used or pinned since, and all that this needs.

    Tags go first, then manifests, then what they name: whoever comes in between finds less, and never half of it. What
    cannot be removed is a problem, and stays. Daemons are told what there is room for now.

    @param advance: called with the bytes of each piece of content.
    """
    done, kept = Done(), set[Key]()
    pins, tally = Pins(layout), Tally(layout)
    for unit in plan.units:
        try:
            gone = _forget(layout, pins, unit)
        except StoreError as error:
            problems.fail(error.message)
            gone = False
        if gone:
            done.units.append(unit)
        else:
            done.spared.append(unit)
            kept |= stock.consists(unit)
    for key in plan.content:
        number = stock.numbers[key]
        advance(stock.sizes[number])
        if key in kept:
            continue
        freed = None
        try:
            freed = remove_content(layout, digest_of(key), stock.times[number])
        except StoreError as error:
            problems.fail(error.message)
        if freed is None:
            kept |= stock.led(key)
        else:
            done.content[key] = freed
            tally.changed(digest_of(key), freed, 0)
    for home, keys in plan.members.items():
        for key in keys - kept:
            try:
                forget_member(layout, home.registry, home.repository, digest_of(key))
            except StoreError as error:
                problems.fail(error.message)
        tidy(layout, home.registry, home.repository)
    return done


def _forget(layout: Layout, pins: Pins, unit: Unit) -> bool:
    """Remove a unit's tag, if it has one; whether it may go."""
    home = unit.home
    if home is None:
        return True
    digest = digest_of(unit.top)
    if pins.holds(home.registry, home.repository, unit.reference) or pins.holds(home.registry, home.repository, digest):
        return False
    used = mtime(layout.member(home.registry, home.repository, digest))
    if used is not None and used > unit.used:
        return False
    if isinstance(unit.tag, Tag):
        path = layout.tag(home.registry, home.repository, unit.tag)
        noted = mtime(path)
        if noted is not None and unit.noted is not None and noted > unit.noted:
            return False
        unlink(path)
    return True
