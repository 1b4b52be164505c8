"""A source model: what was learnt, apart from what is static, and one pure function to apply it."""

import dataclasses
import re
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from leepjax._store import digest
from leepjax.models.convolve import use_fast_convolutions
from leepjax.models.preprocess import Preprocess
from leepjax.models.tokens import Tokens


class Outputs(NamedTuple):
    """What a network says about images or texts.

    Attributes:
      features: ``[n, d]``, the input of the network's head.
      logits: ``[n, s]``, one per source class.
    """

    features: Any
    logits: Any


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["params", "rest"],
    meta_fields=["graphdef", "preprocess", "class_names"],
)
@dataclasses.dataclass(frozen=True)
class Source:
    """A network with its parameters, ready for ``apply``, ``extract`` and any transfer.

    Attributes:
      graphdef: the static structure, from ``nnx.split``; equal for networks built alike.
      params: nested dict of arrays, what gradients are taken of; ``params["head"]`` is the head.
      rest: nested dict of arrays, the running averages of batch normalisation.
      preprocess: from uint8 images to the network's input; ``Tokens`` of a language model.
      class_names: ``s`` names of the source classes.
    """

    graphdef: Any
    params: dict[str, Any]
    rest: dict[str, Any]
    preprocess: Preprocess | Tokens
    class_names: tuple[str, ...]

    @property
    def num_parameters(self) -> int:
        """How many numbers were learnt."""
        return sum(np.size(x) for x in jax.tree.leaves(self.params))

    @cached_property
    def digest(self) -> str:
        """Content key of computation, parameters, running averages, preprocessing and names."""

        # The jaxpr says what is computed; a graphdef's text differs between processes. Functions
        # in it print their address, which differs too. As written, not as made fast on a backend.
        def plain(params: Any, rest: Any, x: jax.Array) -> Any:
            network = nnx.merge(self.graphdef, params, rest)
            return Outputs(*network(x, train=False)), rest

        jaxpr = jax.make_jaxpr(plain)(self.params, self.rest, self.preprocess.input)
        computation = re.sub(r" at 0x[0-9a-f]+", "", str(jaxpr))
        arrays = tree_digest((self.params, self.rest))
        return digest(computation, arrays, self.preprocess, self.class_names)


def tree_digest(tree: Any) -> str:
    """Content key of the arrays of a pytree and of their places in it."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return digest(*(part for path, leaf in leaves for part in (jax.tree_util.keystr(path), leaf)))


def make_source(
    network: nnx.Module, preprocess: Preprocess | Tokens, class_names: tuple[str, ...]
) -> Source:
    """Split a network into a ``Source``; the arrays are shared with it, not copied.

    Args:
      network: called as ``network(x [n, h, w, ch], train=False)``, it returns features ``[n, d]``
        and logits ``[n, s]``; its head is the attribute ``head``.
      preprocess: from uint8 images to ``x``.
      class_names: ``s`` names.

    Raises:
      ValueError: names that are not one per logit.
    """
    graphdef, params, rest = nnx.split(network, nnx.Param, ...)
    source = Source(
        graphdef,
        nnx.to_pure_dict(params),
        nnx.to_pure_dict(rest),
        preprocess,
        tuple(class_names),
    )
    call = partial(apply, graphdef)
    outputs, _ = jax.eval_shape(call, source.params, source.rest, source.preprocess.input)
    if outputs.logits.shape[-1] != len(class_names):
        raise ValueError(
            f"class_names: wanted {outputs.logits.shape[-1]} names, one per logit, "
            f"got {len(class_names)}"
        )
    return source


def apply(
    graphdef: Any,
    params: dict[str, Any],
    rest: dict[str, Any],
    x: jax.Array,
    *,
    train: bool = False,
) -> tuple[Outputs, dict[str, Any]]:
    """Run a network; pure, for ordinary ``jit``, ``grad``, ``vmap`` and ``scan``.

    On a CPU convolutions take the forms of ``models.convolve``, which are differentiated in
    reverse, also under ``jax.jvp`` of ``jax.grad``, but not by ``jax.jvp`` or ``jax.jacfwd`` alone.
    A ``jax.jit`` of training steps is fastest there with its ``keep_barriers``.

    Args:
      graphdef: static structure.
      params: nested dict of arrays.
      rest: nested dict of arrays.
      x: ``[n, size, size, channels]`` float, already preprocessed; of a language model
        ``[n, length, 3]`` int32.
      train: normalise by the batch and update the running averages.

    Returns:
      The outputs, and ``rest`` after the call: itself unless ``train``.
    """
    # Merging plain dicts makes Variables of this trace; merging nnx.State would share the caller's.
    network = nnx.merge(graphdef, params, rest)
    use_fast_convolutions(network)
    if not train:
        return Outputs(*network(x, train=False)), rest
    outputs = Outputs(*network(x, train=True))
    _, _, updated = nnx.split(network, nnx.Param, ...)
    return outputs, nnx.to_pure_dict(updated)
