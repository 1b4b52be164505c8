"""What is checked of arguments: kinds and shapes always, values by rules that are computed.

Whatever is wrong is a ``ValueError`` that names the argument, what was wanted and what was got.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

ROW_SUM_TOLERANCE = {2: 2e-2, 4: 1e-4, 8: 1e-6}  # by bytes of the dtype: half, single, double
MOST_CELLS = 2**27  # of a table of class pairs: 512 MiB of floats
MATRICES = ("probs", "logits", "features")
INTEGERS = ("labels", "source_labels")


def check_count(name: str, value: object) -> int:
    """A static count >= 1 (``num_classes``, ``k``, ...)."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name}: wanted a Python int >= 1, got {value!r}")
    return int(value)


def check_number(name: str, value: float, positive: bool = False) -> float:
    """A finite number >= 0, or > 0."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number < math.inf or (positive and number == 0):
        wanted = f"a finite number {'>' if positive else '>='} 0"
        raise ValueError(f"{name}: wanted {wanted}, got {value!r}")
    return number


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> str:
    """One of a few named choices."""
    if value not in choices:
        raise ValueError(f"{name}: wanted one of {list(choices)}, got {value!r}")
    return value


def check_key(key: jax.Array) -> jax.Array:
    """One random key, typed or of raw words."""
    try:
        if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
            key = jax.random.wrap_key_data(jnp.asarray(key))
    except (AttributeError, TypeError, ValueError):
        key = jnp.zeros(0)  # no key either
    if key.shape != ():
        raise ValueError("key: wanted one JAX random key, as of jax.random.key(0)")
    return key


def as_array(name: str, x: ArrayLike) -> jax.Array:
    """The argument of this name as an array of the kind that it must have."""
    try:
        if name in INTEGERS and not isinstance(x, jax.Array):
            x = np.asarray(x)
            if x.dtype.kind not in "iub":
                raise ValueError(f"{name}: wanted integers, got dtype {x.dtype}")
            if x.dtype.kind in "iu":  # what int32 cannot hold must not wrap into range
                x = np.clip(x, -1, np.iinfo(np.int32).max).astype(np.int32)
        elif isinstance(x, np.ndarray) and x.dtype.kind == "f":  # JAX has neither of these
            other = np.float64 if x.dtype.itemsize > 8 else x.dtype.newbyteorder("=")
            x = x.astype(other, copy=False)
        x = jnp.asarray(x)
    except (TypeError, OverflowError) as error:
        raise ValueError(f"{name}: wanted an array, got {type(x).__name__} ({error})") from None
    if name in INTEGERS:
        kind, wanted = jnp.integer, "integers"
        if jnp.issubdtype(x.dtype, kind) and x.dtype.itemsize < 4:
            x = x.astype(jnp.int32)  # a count that is compared with them may not fit into a byte
    elif name == "where":
        kind, wanted = jnp.bool_, "booleans"
    elif name == "weights":
        if jnp.issubdtype(x.dtype, jnp.complexfloating):
            raise ValueError(f"weights: wanted real numbers, got dtype {x.dtype}")
        return x.astype(jnp.result_type(float))
    else:
        kind, wanted = jnp.floating, "floating-point numbers"
    if not jnp.issubdtype(x.dtype, kind):
        raise ValueError(f"{name}: wanted {wanted}, got dtype {x.dtype}")
    return x


def check_cells(arrays: Mapping[str, jax.Array], counts: Mapping[str, int]) -> None:
    """Counts of classes and of their pairs must fit: absurd ones are mistakes, not large tables."""
    if counts.get("num_classes", 1) > MOST_CELLS:
        got = f"{counts['num_classes']:,}"
        raise ValueError(f"num_classes: wanted at most {MOST_CELLS:,}, got {got}")
    if "source_labels" in arrays and "labels" in arrays:
        s, c = counts["num_source_classes"], counts["num_classes"]
        if s * c > MOST_CELLS:
            wanted = f"at most {MOST_CELLS:,} pairs of source and target classes"
            raise ValueError(f"source_labels: wanted {wanted}, got {s:,} times {c:,}")


def check_shapes(arrays: Mapping[str, jax.Array]) -> None:
    """One sample or more, and the same number in all arrays; ``labels`` say how many."""
    first = "labels" if "labels" in arrays else next(iter(arrays))
    x = arrays[first]
    if first == "labels" and x.ndim != 1:
        raise ValueError(f"labels: wanted shape [n] with n >= 1, got {list(x.shape)}")
    if x.ndim == 0 or x.shape[0] == 0:
        raise ValueError(f"{first}: wanted at least one sample, got shape {list(x.shape)}")
    n = x.shape[0]
    for name, x in arrays.items():
        if name in MATRICES or (name == "targets" and x.ndim != 1):
            if x.ndim != 2 or x.shape[1] == 0:
                raise ValueError(f"{name}: wanted shape [n, columns], got {list(x.shape)}")
            if x.shape[0] != n:
                raise ValueError(
                    f"{name}: wanted one row for each of the {n} samples of {first}, "
                    f"got {x.shape[0]}"
                )
        elif x.shape != (n,):
            raise ValueError(f"{name}: wanted shape [{n}] like {first}, got {list(x.shape)}")


class Rule(NamedTuple):
    """What values of an argument must be, and where they are not."""

    argument: str
    wanted: str
    broken: jax.Array  # [n] or scalar


def included(arrays: Mapping[str, jax.Array]) -> jax.Array:
    """``[n]`` bool, the samples that count."""
    first = arrays.get("labels", next(iter(arrays.values())))
    return arrays.get("where", jnp.ones(first.shape[:1], bool))


def rules_of(
    arrays: Mapping[str, jax.Array], counts: Mapping[str, int], may_be_empty: bool
) -> list[Rule]:
    """What values must satisfy, sample by sample; masked samples satisfy everything.

    Written as reductions that a CPU does in one pass without intermediate arrays.
    """
    counted = included(arrays)
    rules = []
    if "where" in arrays and not may_be_empty:
        rules.append(Rule("where", "at least one sample that is True", ~counted.any()))
    for name, bound in (("labels", "num_classes"), ("source_labels", "num_source_classes")):
        if name in arrays:
            x, count = arrays[name], counts[bound]
            outside = counted & ((x < 0) | (x >= count))
            rules.append(Rule(name, f"integers in [0, {count})", outside))
    for name in ("logits", "features", "targets"):
        if name in arrays:
            x = arrays[name].reshape(counted.shape[0], -1)
            finite = jnp.isfinite(jnp.abs(x).max(1))  # the largest of a row with a NaN is NaN
            rules.append(Rule(name, "finite numbers", counted & ~finite))
    if "probs" in arrays:
        x = arrays["probs"]
        total = x.astype(jnp.promote_types(x.dtype, jnp.float32)).sum(1)
        rules.append(Rule("probs", "finite numbers", counted & ~jnp.isfinite(total)))
        wanted = "probabilities: rows >= 0 that sum to 1 (of logits, pass jax.nn.softmax(logits))"
        rules.append(Rule("probs", wanted, counted & improper(total, x.min(1), x.dtype)))
    if "weights" in arrays:
        w = arrays["weights"]
        rules.append(Rule("weights", "finite numbers >= 0", counted & ~((w >= 0) & (w < jnp.inf))))
        if not may_be_empty:
            rules.append(Rule("weights", "a positive sum", ~jnp.any(counted & (w > 0))))
        total = jnp.sum(jnp.where(counted, w, 0))
        rules.append(Rule("weights", "a finite sum", ~jnp.isfinite(total)))
    return rules


def improper(total: jax.Array, least: jax.Array, dtype: np.dtype) -> jax.Array:
    """Which rows of this sum and least entry are no probabilities; rows that are not finite too."""
    return ~(least >= 0) | ~(jnp.abs(total - 1) <= ROW_SUM_TOLERANCE[dtype.itemsize])


def raise_broken(rules: list[Rule], arrays: Mapping[str, jax.Array]) -> None:
    """A ``ValueError`` that says where the first broken rule is broken."""
    for rule in rules:
        broken = jnp.atleast_1d(rule.broken)  # not NumPy's: its rows may be of other processes
        if broken.any():
            if broken.size == 1 and len(included(arrays)) != 1:
                got = "none"
            else:
                row = int(broken.argmax())
                shown = np.array2string(np.asarray(arrays[rule.argument][row]), threshold=6)
                got = f"{shown} at sample {row} ({int(broken.sum())} such samples)"
            raise ValueError(f"{rule.argument}: wanted {rule.wanted}; got {got}")


def refuse_overflow(value: Any, arrays: Mapping[str, jax.Array], name: str = "") -> None:
    """A ``ValueError`` where a score, a scalar, of valid arrays left the range of its dtype.

    It takes absurdly large or small numbers: of squares and their sums float32 holds 1e-38 to 3e38.
    """
    scalar = isinstance(value, jax.Array) and not isinstance(value, Tracer) and value.shape == ()
    if not scalar or np.isfinite(value):
        return
    counted, sizes = included(arrays), {}
    if not {"features", "logits", "targets", "weights"} & arrays.keys():
        raise ValueError(f"{name or 'score'}: {value} in {value.dtype}; take a less extreme option")
    for argument in ("features", "logits", "targets", "weights"):
        if argument in arrays:
            if not arrays[argument].is_fully_addressable:
                sizes[argument] = "unknown size, in several processes"
                continue
            x = np.abs(np.asarray(arrays[argument])[np.asarray(counted)].astype(np.float64))
            sizes[argument] = f"{x[x > 0].min(initial=np.inf):.0e} to {x.max(initial=0):.0e}"
    got = ", ".join(f"{argument} of {size}" for argument, size in sizes.items())
    raise ValueError(
        f"{', '.join(sizes)}: wanted numbers of which {value.dtype} holds the squares and their "
        f"sums, got {got}, of which {name or 'the score'} is {value}; rescale them, or compute in "
        "float64 (jax_enable_x64)"
    )
