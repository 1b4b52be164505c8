"""Names are identities: two are one name only if they are equal, letter by letter."""

import difflib
import unicodedata
from collections.abc import Collection, Iterable


def normal(name: str) -> str:
    """The name in Unicode's composed form, NFC, without spaces around it: nothing else changes."""
    return unicodedata.normalize("NFC", name).strip()


def nearest(name: str, known: Collection[str]) -> str:
    """The nearest known name, or all of them, as the end of an error message.

    >>> nearest("resnet-50", ["ResNet50", "ViT"])
    "; did you mean 'ResNet50'?"
    """
    folded = {"".join(filter(str.isalnum, other.casefold())): other for other in known}
    ours = "".join(filter(str.isalnum, name.casefold()))
    near = [folded[key] for key in difflib.get_close_matches(ours, list(folded), n=1)]
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; wanted one of {listed(known)}"


def without_partner(names: Iterable[str], known: Collection[str]) -> str:
    """Names that have no equal, each with the nearest known name, for messages; empty if none.

    >>> without_partner(["m-2", "a"], ["m2", "a"])
    "'m-2' (nearest: 'm2')"
    """
    said = []
    for name in dict.fromkeys(names):
        if name not in known:
            near = nearest(name, known)
            near = near.removeprefix("; did you mean ").removesuffix("?")
            said.append(f"{name!r} (nearest: {near})" if near[0] == "'" else repr(name))
    return listed(said, quote=False)


def listed(names: Iterable[str], *, quote: bool = True, limit: int = 4) -> str:
    """The first names, and how many more there are."""
    every = [repr(name) if quote else name for name in names]
    more = f" and {len(every) - limit} more" if len(every) > limit else ""
    return ", ".join(every[:limit]) + more
