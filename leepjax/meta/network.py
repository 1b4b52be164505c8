"""A source's network for meta-learners: features of images by given parameters, and a head.

Parameters are plain dicts. The head for the episodes' classes is separate from the network's own
head, which no meta-learner uses.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from leepjax.metrics.platform import target
from leepjax.models import Source, apply

# ``features(params, rest, x) -> [n, d]``
Features = Callable[[Any, Any, jax.Array], jax.Array]
NORMALISATIONS = ("batch", "running")


def feature_function(source: Source, batch_norm: str, *, in_loop: bool) -> Features:
    """The network up to its head, ``features(params, rest, x [n, h, w, c]) -> [n, d]``.

    Args:
      source: its structure; ``params`` and ``rest`` are arguments, without a head or with any.
      batch_norm: ``"batch"``: normalise by the images themselves, so that predictions for queries
        depend on one another (transductive); ``"running"``: by the running averages in ``rest``.
      in_loop: whether it is to run inside loops, with parameters of its own for each task.

    Raises:
      ValueError: another ``batch_norm``; a network whose parameters have no ``head``.
    """
    if batch_norm not in NORMALISATIONS:
        raise ValueError(f"batch_norm: wanted batch or running, got {batch_norm!r}")
    head = source.params.get("head", {})
    if not {"kernel", "bias"} <= set(head):
        raise ValueError(
            "source: wanted a network whose linear head is its attribute 'head' (a kernel and a "
            f"bias), got one of {', '.join(sorted(source.params))}"
        )
    graphdef = source.graphdef
    if in_loop and target() == "cpu":
        graphdef = _with_products(source)

    def features(params: Any, rest: Any, x: jax.Array) -> jax.Array:
        params = {**params, "head": jax.tree.map(jnp.zeros_like, head)}
        return apply(graphdef, params, rest, x, train=batch_norm == "batch")[0].features

    return features


def embedding(source: Source, features: Features) -> Callable[[Any, jax.Array], jax.Array]:
    """``MetaLearner.embed`` of learners of features: those by the body that is meta-learnt."""

    def embed(meta: Any, images: jax.Array) -> jax.Array:
        return features(meta.params["body"], meta.fixed, source.preprocess(images))

    return embed


def pixels(source: Source) -> Callable[[Any, jax.Array], jax.Array]:
    """``MetaLearner.embed`` where the whole network adapts: the preprocessed images."""
    return lambda meta, images: source.preprocess(images)


def body(params: Any) -> Any:
    """The parameters without the head."""
    return {name: value for name, value in params.items() if name != "head"}


def init_head(key: jax.Array, source: Source, ways: int) -> dict[str, jax.Array]:
    """A head for ``ways`` classes: weights normal with variance 1 / d, no bias."""
    kernel = source.params["head"]["kernel"]
    shape = kernel.shape[0], ways
    weights = jax.random.normal(key, shape, kernel.dtype) / np.sqrt(shape[0]).astype(kernel.dtype)
    return {"kernel": weights, "bias": jnp.zeros(ways, kernel.dtype)}


def linear(head: Any, x: jax.Array) -> jax.Array:
    """Logits ``[n, ways]`` of features ``[n, d]``."""
    return x @ head["kernel"] + head["bias"]


def class_means(x: jax.Array, labels: jax.Array, ways: int) -> jax.Array:
    """``[ways, d]`` mean feature of each class."""
    one_hot = jax.nn.one_hot(labels, ways, dtype=x.dtype)
    return one_hot.T @ x / one_hot.sum(0)[:, None]


def _with_products(source: Source) -> Any:
    """The graphdef with convolutions as matrix products.

    XLA's CPU backend runs a convolution inside a loop more than ten times slower than outside
    (https://github.com/jax-ml/jax/issues/12868), and one with a kernel for each task slower still.
    """
    network = nnx.merge(source.graphdef, source.params, source.rest)
    for _, module in nnx.iter_graph(network):
        if isinstance(module, nnx.Conv) and _plain(module):
            module.conv_general_dilated = convolution_by_product
    return nnx.split(network, nnx.Param, ...)[0]


def _plain(module: nnx.Conv) -> bool:
    """Of images, without groups or dilation; other convolutions stay what they are."""
    dilated = {module.input_dilation, module.kernel_dilation} - {None, 1, (1, 1)}
    return len(module.kernel_size) == 2 and module.feature_group_count == 1 and not dilated


def convolution_by_product(
    x: jax.Array, kernel: jax.Array, strides: Any, padding: Any, **options: Any
) -> jax.Array:
    """``lax.conv_general_dilated`` of channels-last images, without dilation or groups.

    The windows are laid out as rows (im2col), one product with the kernel follows.
    """
    height, width, inputs, outputs = kernel.shape
    if isinstance(padding, str):
        window = [height, width]
        padding = jax.lax.padtype_to_pads(x.shape[1:3], window, strides, padding)
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    n, h, w, _ = x.shape
    rows = (h - height) // strides[0] + 1
    columns = (w - width) // strides[1] + 1
    windows = [
        jax.lax.slice(
            x,
            (0, i, j, 0),
            (n, i + strides[0] * (rows - 1) + 1, j + strides[1] * (columns - 1) + 1, inputs),
            (1, *strides, 1),
        )
        for i, j in np.ndindex(height, width)
    ]
    flat = jnp.concatenate(windows, -1).reshape(n * rows * columns, -1)
    product = jnp.matmul(flat, kernel.reshape(-1, outputs), precision=options.get("precision"))
    return product.reshape(n, rows, columns, outputs)
