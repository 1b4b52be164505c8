"""Scores of samples that lie on many devices.

Every metric, and ``score``, takes arrays that are sharded over samples as they are, and gives the
same value: each device sums over its own samples, and moments and counts are added. ``shard``
spreads arrays of any length, by padding them with samples that ``where`` leaves out.

Its arrays lie on a mesh of automatic axes. Arrays of a mesh with explicit axes are taken too, but
not inside your own ``jit`` or ``grad``, nor under ``jax.set_mesh``: make them automatic before.

Example:
  >>> import jax, jax.numpy as jnp
  >>> from leepjax.metrics import leep, sharding
  >>> mesh = jax.make_mesh((jax.device_count(),), ("data",))
  >>> probs = jnp.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.1, 0.9]])
  >>> shards = sharding.shard(mesh, probs=probs, labels=jnp.array([0, 0, 1, 1]))
  >>> value = leep(shards["probs"], shards["labels"], num_classes=2, where=shards["where"])
  >>> print(f"{value:.4f}")
  -0.3426
"""

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jax.typing import ArrayLike


def shard(mesh: Mesh, *, axis: str | None = None, **arrays: ArrayLike) -> dict[str, jax.Array]:
    """Arrays ``[n, ...]`` spread over the devices of a mesh, and the mask of what is no padding.

    Args:
      mesh: the devices.
      axis: name of the mesh's axis that samples are spread over; default its first.
      **arrays: by name, with the same n; one may be ``where``.

    Returns:
      The arrays by name, padded with zeros to a multiple of the axis's size, and ``where``.

    Raises:
      ValueError: no arrays, different lengths, or an axis that the mesh does not have.
    """
    axis = mesh.axis_names[0] if axis is None else axis
    if axis not in mesh.axis_names:
        raise ValueError(f"axis: wanted one of {list(mesh.axis_names)}, got {axis!r}")
    lengths = {name: np.shape(x)[:1] for name, x in arrays.items()}
    if len(set(lengths.values())) != 1 or () in lengths.values():
        raise ValueError(f"arrays: wanted one length for all, got {lengths}")
    ((n,),) = set(lengths.values())
    arrays.setdefault("where", np.ones(n, bool))
    automatic = Mesh(mesh.devices, mesh.axis_names)  # its axes need no say in every operation
    padding = -n % mesh.shape[axis]

    def spread(x):
        x = np.pad(np.asarray(x), ((0, padding), *[(0, 0)] * (np.ndim(x) - 1)))
        return jax.device_put(x, NamedSharding(automatic, P(axis)))

    return {name: spread(x) for name, x in arrays.items()}
