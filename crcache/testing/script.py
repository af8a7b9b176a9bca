"""How a fake registry misbehaves, and when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Fault:
    """What to do to an answer. The parts may be combined; what is left out stays as it should be.

    @ivar status: answer with this status, and with C{body}, instead of the content.
    @ivar headers: header lines to set, over the usual ones, as (name, value); a value of C{None} removes the line.
    @ivar body: send these bytes instead.
    @ivar redirect: answer 307 with this `Location`; C{{path}} and C{{digest}} in it are those of the request.
    @ivar hold: send nothing until the rule is released.
    @ivar cut: end the connection after so many bytes of the body.
    @ivar reset: cut, or hang up, with a TCP reset, not in an orderly way.
    @ivar stall: after so many bytes of the body, wait until the rule is released.
    @ivar rate: bytes of the body per second.
    @ivar ignore_range: answer 200 with everything.
    @ivar wrong: as many bytes as there should be, but other ones.
    @ivar extra: bytes that follow the true body, and are counted in its length.
    @ivar claim: the `Content-Length` to give, whatever the body's; the connection is closed after the body.
    @ivar unsized: give no `Content-Length`: chunked, or (as in HTTP/1.0) ended by the connection's close.
    @ivar gzip: compress the body, and say so with `Content-Encoding`.
    @ivar undigested: leave out `Docker-Content-Digest`.
    @ivar hang_up: close the connection without any answer.
    """

    status: int | None = None
    headers: tuple[tuple[str, str | None], ...] = ()
    body: bytes | None = None
    redirect: str | None = None
    hold: bool = False
    cut: int | None = None
    reset: bool = False
    stall: int | None = None
    rate: float | None = None
    ignore_range: bool = False
    wrong: bool = False
    extra: bytes = b""
    claim: int | None = None
    unsized: Literal["chunked", "close"] | None = None
    gzip: bool = False
    undigested: bool = False
    hang_up: bool = False


#: The answer as it should be.
NO_FAULT = Fault()


@dataclass(eq=False)
class Rule:
    """A fault with its conditions. Rules are tried in the order they were added; the first that applies is used.

    @ivar kind: ping, manifest, blob, tags, referrers, token or cdn; C{None} is any.
    @ivar path: the request's path, or a part of it; C{None} is any.
    @ivar method: C{None} is any.
    @ivar times: how often it applies; C{None} is always.
    @ivar skip: how many requests that would match pass first.
    @ivar used: how often it has been applied.
    """

    fault: Fault
    kind: str | None = None
    path: str | None = None
    method: str | None = None
    times: int | None = 1
    skip: int = 0
    used: int = 0
    released: bool = False
    _waiting: list[Callable[[], object]] = field(default_factory=list)

    def applies(self, kind: str, path: str, method: str) -> bool:
        """Whether the conditions hold; counts down C{skip} if so."""
        if self.times is not None and self.used >= self.times:
            return False
        if (self.kind or kind) != kind or (self.method or method) != method or (self.path or "") not in path:
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        return True

    def release(self) -> None:
        """Let everything that this rule holds go on, and hold nothing from now on."""
        self.released = True
        waiting, self._waiting = self._waiting, []
        for go_on in waiting:
            go_on()

    def wait(self, go_on: Callable[[], object]) -> None:
        """Call C{go_on} at L{release}; at once if that has been."""
        if self.released:
            go_on()
        else:
            self._waiting.append(go_on)


class Script:
    """The rules in force."""

    def __init__(self) -> None:
        self.rules: list[Rule] = []

    def add(self, rule: Rule) -> Rule:
        """Put a rule behind the others."""
        self.rules.append(rule)
        return rule

    def clear(self) -> None:
        """Behave from now on. What is held goes on."""
        rules, self.rules = self.rules, []
        for rule in rules:
            rule.release()

    def match(self, kind: str, path: str, method: str) -> Rule:
        """The rule for a request, counted as used."""
        for rule in self.rules:
            if rule.applies(kind, path, method):
                rule.used += 1
                return rule
        return Rule(NO_FAULT)
