"""Messages on standard error: one progress bar for all long work, and single lines."""

import contextlib
import logging
import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

from leepjax._text import printable


def progress(
    iterable: Iterable[Any] | None = None, *, total: int | None = None, desc: str | None, unit: str
) -> Any:
    """``tqdm`` with this project's manners: live on a terminal, one line each 10 s in a log.

    Nothing is shown where ``desc`` is None, as of a part of work that has a bar of its own.
    """
    return tqdm(
        iterable,
        total=total,
        desc=desc,
        disable=desc is None,
        unit=unit,
        unit_scale=unit != "task",
        dynamic_ncols=True,
        mininterval=0.2 if sys.stderr and sys.stderr.isatty() else 10.0,
        file=_STDERR,
    )


def tell(line: str) -> None:
    """A line of what has been done so far, above the bars that run."""
    tqdm.write(printable(line), file=_STDERR)


def say(line: str) -> None:
    """A line about what was done otherwise than it may seem; of the logger ``leepjax``."""
    logging.getLogger("leepjax").warning(printable(line))


class _Optional:
    """Standard error while it can be written: no result is lost with a log or a reader."""

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, AttributeError, ValueError):  # full, none, closed
            sys.stderr.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, AttributeError, ValueError):
            sys.stderr.flush()


_STDERR: Any = _Optional()
