"""What is fuzzed: a strategy of small descriptions, and what must hold for each of them."""

import hashlib
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

# Nothing is kept of a run: it is repeated by its seed. Shrinking is bounded by hypothesis itself.
QUIET = {
    "database": None,
    "deadline": None,
    "phases": (Phase.generate, Phase.shrink),
    "suppress_health_check": list(HealthCheck),
}


class Target(NamedTuple):
    """One thing that is fuzzed.

    Attributes:
      kind: the sort of thing, for the table: metric, reader, names.
      name: of the thing itself.
      cases: descriptions of inputs, small enough to be shrunk and printed.
      check: what is done with one; it returns what became of it, ``value`` or ``refused``, and
        fails where that is neither.
      share: one in so many of the cases that are asked for, where one takes long.
    """

    kind: str
    name: str
    cases: st.SearchStrategy[Any]
    check: Callable[[Any], str]
    share: int = 1


class Found(NamedTuple):
    """What became of a target's cases.

    Attributes:
      outcomes: how often it was what, of those that ended well.
      slowest: seconds of the slowest case after the first, which compiles and imports.
      error: of the smallest failing case, which stands in its notes; None.
    """

    outcomes: Counter[str]
    slowest: float
    error: BaseException | None


def fuzz(target: Target, cases: int, number: int = 0) -> Found:
    """Check so many cases of a target, the same ones for the same number."""
    outcomes: Counter[str] = Counter()
    slowest = 0.0
    failed = False

    # A seed of its own: targets that share a strategy would all see the same cases.
    own = int.from_bytes(hashlib.sha256(f"{target.name} {number}".encode()).digest()[:8], "big")

    @seed(own)
    @settings(max_examples=max(cases // target.share, 1), **QUIET)
    @given(target.cases)
    def check(case: Any) -> None:
        nonlocal slowest, failed
        start = time.perf_counter()
        try:
            became = target.check(case)
        except Exception:
            failed = True
            raise
        if not failed:  # what follows is shrinking
            slowest = max(slowest, time.perf_counter() - start) if outcomes else 0.0
            outcomes[became] += 1

    try:
        check()
    except Exception as error:
        return Found(outcomes, slowest, error)
    return Found(outcomes, slowest, None)


def refusal(call: Callable[[], Any]) -> tuple[Any, str]:
    """The value of a call and no words, or None and the words of its ``ValueError``."""
    try:
        return call(), ""
    except ValueError as error:
        return None, str(error) or "nothing was said"
