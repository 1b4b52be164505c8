"""What a kernel is, and all that it may ask for.

A kernel holds nothing but a metric's formula. Its parameters name what it needs, as ``PARAMETERS``
lists it: clean arrays, or what is derived of them once for all kernels. Beside these it may have
keyword options of its own, which are static, and take what :func:`evaluate` is ``given``.
"""

import inspect
from collections.abc import Callable, Collection, Container, Hashable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from leepjax.metrics._left_out import LeftOut, left_out
from leepjax.metrics._moments import Moments, blank, measure, solve, spectrum_of


class Kernel(NamedTuple):
    """A formula, and what its value means where it is not simply a score.

    Attributes:
      formula: a function of some of ``PARAMETERS`` and of static options.
      undefined: the error that a NaN stands for, where the formula has no limit; empty: nowhere.
      adds: whether it is a sum: of no samples at all, or of no weight, it is zero.
      targets: whether its moments are those with real targets.
    """

    formula: Callable[..., Any]
    undefined: str = ""
    adds: bool = False
    targets: bool = False

    @property
    def parameters(self) -> list[str]:
        """Names of all that the formula takes."""
        return list(inspect.signature(self.formula).parameters)

    def refuse_undefined(self, value: Any, name: str = "") -> None:
        """Raise what a NaN means."""
        if self.undefined and not isinstance(value, Tracer) and np.isnan(value):
            raise ValueError(f"{name}: {self.undefined}".removeprefix(": "))


def as_kernel(kernel: Kernel | Callable[..., Any]) -> Kernel:
    """A plain function is a formula of which nothing more is to be known."""
    return kernel if isinstance(kernel, Kernel) else Kernel(kernel)


class Shared:
    """What kernels ask for by name; what is derived is computed once, when first asked for.

    ``asked`` are names that kernels will ask for: what one needs anyway, another may use.
    """

    def __init__(self, known: Mapping[str, Any], asked: Collection[str] = ()):
        self.known, self.asked = dict(known), set(asked)
        # Moments blank them by blocks of rows: no second array of the features' size.
        self.raw_features = self.known.pop("features", None), self.known.pop("where", None)

    def call(self, kernel: Kernel, options: Mapping[str, Hashable]) -> Any:
        """The kernel's value."""
        needed = [name for name in kernel.parameters if name not in options]
        return kernel.formula(**{name: self.get(name) for name in needed}, **options)

    def get(self, name: str) -> Any:
        """What ``PARAMETERS`` says of the name."""
        if name not in self.known:
            derive = PARAMETERS[name].derive
            if derive is None:
                raise ValueError(f"{name}: wanted by this metric, got None")
            self.known[name] = derive(self)
        return self.known[name]


class Parameter(NamedTuple):
    """What a kernel gets by a name.

    Attributes:
      meaning: in one line; arrays are of at least single precision, and zero where masked.
      sources: the arrays of which it can be derived, where it is not given; any one is enough.
      derive: how; None: it is given, or missing.
    """

    meaning: str
    sources: tuple[str, ...] = ()
    derive: Callable[[Shared], Any] | None = None


def _argmax(shared: Shared) -> jax.Array:
    outputs = shared.known["probs"] if "probs" in shared.known else shared.known["logits"]
    return jnp.argmax(outputs, 1).astype(jnp.int32)


def _measure(shared: Shared) -> Moments:
    known, (features, where) = shared.known, shared.raw_features
    labels, targets = known.get("labels"), known.get("targets")
    if labels is None:
        labels = jnp.zeros(known["weights"].shape, jnp.int32)
    return measure(
        features,
        labels,
        known["weights"],
        where=where,
        some=known["some"],
        num_classes=known.get("num_classes", 1),
        targets=None if targets is None else targets.reshape(len(labels), -1),
    )


def _solve(shared: Shared) -> Callable[[jax.Array], jax.Array]:
    there = {"spectrum", "left_out"} & shared.asked
    return partial(solve, shared.get("moments"), spectrum=shared.get("spectrum") if there else None)


def _left_out(shared: Shared) -> LeftOut:
    names = ("features", "labels", "weights", "moments", "spectrum", "num_classes")
    return left_out(*map(shared.get, names))


PARAMETERS: dict[str, Parameter] = {
    "labels": Parameter("[n] int32, target labels in 0..num_classes-1"),
    "source_labels": Parameter(
        "[n] int32, source labels in 0..num_source_classes-1; else the arg max of what is given",
        ("probs", "logits"),
        _argmax,
    ),
    "probs": Parameter(
        "[n, s] source-class probabilities; else the softmax of logits",
        ("logits",),
        lambda shared: jax.nn.softmax(shared.get("logits"), axis=1),
    ),
    "logits": Parameter("[n, s] source-class logits"),
    "features": Parameter(
        "[n, d] features of the source model",
        derive=lambda shared: blank(*shared.raw_features),
    ),
    "targets": Parameter("[n] or [n, t] real targets"),
    "weights": Parameter("[n] >= 0, zero where masked; their sum is positive unless it adds"),
    "some": Parameter("[15] rows of positive weight, from the first to the last"),
    "moments": Parameter(
        "Moments of features by class, and with targets; about a shift, in a unit: _moments.py",
        ("features",),
        _measure,
    ),
    "spectrum": Parameter(
        "Spectrum of the features' covariance",
        ("features",),
        lambda shared: spectrum_of(shared.get("moments")),
    ),
    "solve": Parameter(
        "function of [d, k]: the product with the pseudo-inverse of the features' covariance",
        ("features",),
        _solve,
    ),
    "left_out": Parameter(
        "LeftOut of a ridge regression to each sample from all others", ("features",), _left_out
    ),
    "num_classes": Parameter("number of target classes, a Python int"),
    "num_source_classes": Parameter("number of source classes, a Python int"),
    "key": Parameter("one typed random key, of a metric that draws"),
}


def derived(given: Container[str]) -> set[str]:
    """Names of what can be had from the arrays of these names."""
    return {
        name
        for name, parameter in PARAMETERS.items()
        if any(source in given for source in parameter.sources)
    }
