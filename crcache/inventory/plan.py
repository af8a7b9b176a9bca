"""What is to go, and what has to stay with what stays: decided over what was found, touching nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from crcache.inventory.repositories import Home
from crcache.inventory.stock import Key, Stock, Unit
from crcache.policy.eviction import depths, effective, order


@dataclass(frozen=True)
class Plan:
    """What goes.

    @ivar units: images and others that are no more, the least recently used first.
    @ivar content: what of it is here and needed by nothing that stays, in the order in which it goes: what names before
        what is named.
    @ivar members: what each repository is no more to hold.
    """

    units: tuple[Unit, ...]
    content: tuple[Key, ...]
    members: dict[Home, set[Key]]


def plan(stock: Stock, wanted: Callable[[Unit], bool], free: int | None = None) -> Plan:
    """Which of the units that C{wanted} says go, with what.

    What is pinned stays, and all that any unit needs which stays.

    @param free: so many bytes are enough; those that were least recently needed go first then. C{None}: all go.
    """
    going = [unit for unit in stock.units if not unit.pinned and wanted(unit)]
    gone = set(map(id, going))
    staying = [unit for unit in stock.units if id(unit) not in gone]
    needed: set[Key] = set()
    for unit in staying:
        needed |= stock.consists(unit)
    candidates = {key for unit in going for key in stock.consists(unit) if key in stock.numbers and key not in needed}
    content = _ordered(stock, candidates, free)
    if free is not None:
        # What is not here has no bytes to free.
        picked = set(content)
        going = [unit for unit in going if unit.top in picked]
    return Plan(
        tuple(sorted(going, key=lambda unit: unit.used)),
        tuple(content),
        _members(stock, going, None if free is None else set(content)),
    )


def _ordered(stock: Stock, candidates: set[Key], free: int | None) -> list[Key]:
    if not candidates or (free is not None and free <= 0):
        return []
    keys = list(stock.numbers)
    pinned = {key for unit in stock.units if unit.pinned for key in stock.consists(unit)}
    edges = list(stock.edges())
    times = effective(stock.times, edges, [stock.numbers[key] for key in pinned if key in stock.numbers])
    found, freed = [], 0
    for number in order(times, depths(len(times), edges)):
        if keys[number] in candidates:
            found.append(keys[number])
            freed += stock.sizes[number]
            if free is not None and freed >= free:
                break
    return found


def _members(stock: Stock, going: list[Unit], picked: set[Key] | None) -> dict[Home, set[Key]]:
    """What each repository is not to hold any more: nothing that an image of its own that stays consists of."""
    found: dict[Home, set[Key]] = {}
    for unit in going:
        if unit.home is not None:
            keys = stock.consists(unit)
            # Of an image that went in part, what is left is the repository's still.
            gone = keys if picked is None else {key for key in keys if key in picked or key not in stock.numbers}
            found.setdefault(unit.home, set()).update(gone)
    gone_units = set(map(id, going))
    for unit in stock.units:
        if unit.home in found and id(unit) not in gone_units:
            found[unit.home] -= stock.consists(unit)
    return found
