"""Scores of samples that lie on many devices.

Every metric, and ``score``, takes arrays that are sharded over samples as they are, and gives the
same value: each device sums over its own samples, and moments and counts are added. ``shard``
spreads arrays of any length, by padding them with samples that ``where`` leaves out.
``shard_local`` makes one array of the rows that each of several processes has, and the score of
it is the same in every process.

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

import zlib

import jax
import numpy as np
from jax.experimental import multihost_utils
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
    axis, n = _check(mesh, axis, arrays)
    arrays.setdefault("where", np.ones(n, bool))
    layout = _layout(mesh, axis)
    padded = n + -n % mesh.shape[axis]
    return {name: jax.device_put(_pad(x, padded), layout) for name, x in arrays.items()}


def shard_local(
    mesh: Mesh, *, axis: str | None = None, **arrays: ArrayLike
) -> dict[str, jax.Array]:
    """Arrays of the rows that every process has of its own, and the mask of what is no padding.

    All processes call it together, each with its own rows: as many as it has, or none. Each part is
    padded to the size of the largest. In a single process it is :func:`shard`.

    Args:
      mesh: devices of all processes, as many of each along the axis, and together.
      axis: name of the mesh's axis that samples are spread over; default its first.
      **arrays: by name, ``[m, ...]`` with the same m, which may differ between processes; one may
        be ``where``. Names, dtypes and the other dimensions are the same in all.

    Returns:
      The arrays by name, over the devices of all processes, and ``where``.

    Raises:
      ValueError: as of :func:`shard`; or the arrays of another process differ in more than their
        length, or processes have different numbers of the mesh's devices.
    """
    axis, n = _check(mesh, axis, arrays)
    arrays.setdefault("where", np.ones(n, bool))
    parts = {name: np.asarray(x) for name, x in sorted(arrays.items())}
    processes = jax.process_count()
    owners = [device.process_index for device in mesh.devices.flat]
    got = [owners.count(process) for process in range(processes)]
    if len({*got}) > 1 or mesh.shape[axis] % processes:
        raise ValueError(
            f"mesh: wanted as many devices of each process along {axis!r}, got {got} in all, and "
            f"{mesh.shape[axis]} along it"
        )
    kinds = {
        name: f"{x.dtype}[m{''.join(f', {size}' for size in x.shape[1:])}]"
        for name, x in parts.items()
    }
    mine = np.array([n, zlib.crc32(str(kinds).encode())], np.uint32)
    # Of a single process it has no axis of processes.
    sizes, sums = np.reshape(multihost_utils.process_allgather(mine), (-1, 2)).T
    if (sums != sums[0]).any():
        other = int((sums != sums[0]).argmax())
        raise ValueError(
            f"arrays: wanted names, dtypes and shapes the same in all processes; process {other} "
            f"has others than process 0; process {jax.process_index()} has {kinds}"
        )
    each = -(-int(sizes.max()) * processes // mesh.shape[axis]) * mesh.shape[axis] // processes
    layout = _layout(mesh, axis)
    return {
        name: jax.make_array_from_process_local_data(
            layout, _pad(x, each), (processes * each, *x.shape[1:])
        )
        for name, x in parts.items()
    }


def _check(mesh, axis, arrays):
    """The name of the axis, and the length of all arrays."""
    axis = mesh.axis_names[0] if axis is None else axis
    if axis not in mesh.axis_names:
        raise ValueError(f"axis: wanted one of {list(mesh.axis_names)}, got {axis!r}")
    lengths = {name: np.shape(x)[:1] for name, x in arrays.items()}
    if len(set(lengths.values())) != 1 or () in lengths.values():
        raise ValueError(f"arrays: wanted one length for all, got {lengths}")
    ((n,),) = set(lengths.values())
    return axis, n


def _layout(mesh, axis):
    automatic = Mesh(mesh.devices, mesh.axis_names)  # its axes need no say in every operation
    return NamedSharding(automatic, P(axis))


def _pad(x, length):
    x = np.asarray(x)
    return np.pad(x, ((0, length - len(x)), *[(0, 0)] * (x.ndim - 1)))
