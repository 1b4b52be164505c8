"""Independent pieces of work, in this process or on a Ray cluster, where what dies is run again.

A piece is described small: a path, names, numbers of tasks. What all pieces share is in the
function itself, which a cluster gets once. Results come back as pieces end, and the caller writes
them to its journal: a worker, a node, this process or the whole cluster that dies costs the pieces
under way. Ray is imported only where a cluster is asked for.
"""

import contextlib
import pickle
import socket
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from leepjax._progress import say
from leepjax._ray import check_versions, environment, import_ray, one_line, versions
from leepjax._store import keep_programs

__all__ = ["Failed", "WorkerDied", "connect", "has_gpus", "run_all", "run_pieces"]

AGAIN = 3  # times that a piece is run again after its worker died
AHEAD = 4  # pieces handed out for each CPU; more than one, so that no worker waits
ANSWER = 10  # seconds in which an address has to answer


class WorkerDied(RuntimeError):
    """A piece whose workers died, each time that it was run."""


class Failed(NamedTuple):
    """In the place of a piece's result: what went wrong with it."""

    error: Exception


@contextlib.contextmanager
def connect(cluster: str | None) -> Iterator[None]:
    """Be connected to a Ray cluster inside a ``with``; without ``cluster`` nothing happens.

    Calls that name a cluster connect by themselves; around several of them this does it once. Where
    Ray is connected already, as in a notebook that called ``ray.init``, that connection is used.

    Args:
      cluster: ``"auto"``, the cluster that this machine belongs to; ``"local:N"``, N workers on
        this machine for as long as they are needed; or an address, ``HOST:PORT``, of the head node.

    Raises:
      ValueError: Ray is not installed, ``cluster`` is none of these, or nothing answers there.
    """
    if cluster is None:
        yield
        return
    kind, _, number = cluster.partition(":")
    if kind == "local" and not (number.isdecimal() and int(number) >= 1):
        raise ValueError(f"cluster: wanted local:N with N >= 1, got {cluster!r}")
    ray = import_ray()
    if ray.is_initialized():
        yield
        return
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if kind == "local":
        options |= {"num_cpus": int(number), "include_dashboard": False, "address": "local"}
    else:
        if cluster != "auto":
            _check_answers(cluster)
        options |= {"address": cluster}
    try:
        with warnings.catch_warnings():  # it starts programs, of which JAX's threads know nothing
            warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
            ray.init(**options)
    except Exception as error:  # ConnectionError, RuntimeError, gRPC's
        raise ValueError(f"cluster: cannot connect to {cluster}: {one_line(error)}") from None
    try:
        yield
    finally:
        ray.shutdown()


def run_pieces(
    function: Callable[[Any], Any],
    pieces: Sequence[Any],
    *,
    cluster: str | None = None,
    resources: Mapping[str, float] | None = None,
) -> Iterator[tuple[int, Any]]:
    """``(i, function(pieces[i]))`` of every piece, each once, as they end.

    Without a cluster they run here, in order. On a cluster a piece whose worker dies is run again,
    up to three times. An error of the function itself is not: it comes as :class:`Failed` in the
    place of the result, and the other pieces go on.

    Args:
      function: what is done with a piece; picklable, with all that pieces share, as a ``partial``
        or an object with ``__call__``. Each worker holds one copy.
      pieces: what a worker is told of a piece.
      cluster: as of :func:`connect`.
      resources: what a piece needs, by Ray's names: ``num_cpus``, ``num_gpus``, ``memory`` (bytes);
        by default one GPU where the cluster has GPUs, else one CPU.

    Raises:
      ValueError: as of :func:`connect`; or a worker has another version of leepjax or JAX, or none.

    Example:
      >>> from leepjax.cluster import run_pieces
      >>> list(run_pieces(len, ["leep", "nce"]))
      [(0, 4), (1, 3)]
    """
    if cluster is None:
        for i, piece in enumerate(pieces):
            try:
                result = function(piece)
            except Exception as error:
                result = Failed(error)
            yield i, result
        return
    with connect(cluster):
        yield from _on_ray(function, pieces, resources)


def run_all(
    function: Callable[[Any], Any], pieces: Sequence[Any], *, cluster: str | None, what: str
) -> Iterator[tuple[int, Any]]:
    """:func:`run_pieces` where all are needed: a failure is raised, on a cluster after the others.

    Args:
      function: as of :func:`run_pieces`.
      pieces: as of :func:`run_pieces`.
      cluster: as of :func:`connect`.
      what: what they are parts of, for the error.

    Raises:
      ValueError: as of :func:`run_pieces`; or pieces failed on the cluster, named by their number.
      Exception: without a cluster, what the function raised.
    """
    failures = []
    for i, result in run_pieces(function, pieces, cluster=cluster):
        if not isinstance(result, Failed):
            yield i, result
        elif cluster is None:
            raise result.error
        else:
            failures.append(f"part {i}: {type(result.error).__name__}: {one_line(result.error)}")
    if failures:
        raise ValueError(
            f"{what}: {len(failures)} of {len(pieces)} parts failed and the others are done; first "
            f"{failures[0]}"
        )


def has_gpus() -> bool:
    """Whether there are GPUs in the cluster that this process is connected to, if it is to one."""
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized() and ray.cluster_resources().get("GPU", 0) >= 1


def _on_ray(
    function: Callable[[Any], Any], pieces: Sequence[Any], resources: Mapping[str, float] | None
) -> Iterator[tuple[int, Any]]:
    ray = import_ray()
    there = ray.cluster_resources()
    needs: dict[str, float] = {"num_cpus": 1.0, **({"num_gpus": 1.0} if has_gpus() else {})}
    needs |= dict(resources or {})
    for name, of_ray in (("num_cpus", "CPU"), ("num_gpus", "GPU"), ("memory", "memory")):
        if needs.get(name, 0) > there.get(of_ray, 0):
            say(f"cluster: a piece needs {name}={needs[name]:g}, and no node has it yet; it waits")
    remote = ray.remote(_work).options(max_retries=0, runtime_env=environment(), **needs)
    try:
        held = [ray.put(function)]  # in a list, or each call would wait for a copy of its own
    except (TypeError, pickle.PicklingError) as error:
        raise ValueError(f"cluster: the work cannot be sent: {one_line(error)}") from None
    most = max(16, AHEAD * int(there.get("CPU", 1)))
    to_do = deque((i, 0) for i in range(len(pieces)))
    running: dict[Any, tuple[int, int]] = {}
    try:
        while to_do or running:
            while to_do and len(running) < most:
                i, deaths = to_do.popleft()
                try:
                    running[remote.remote(versions(), held, pieces[i])] = i, deaths
                except (TypeError, pickle.PicklingError) as error:
                    yield i, Failed(ValueError(f"cannot be sent to a worker: {one_line(error)}"))
            for ready in ray.wait([*running], num_returns=1)[0] if running else ():
                i, deaths = running.pop(ready)
                try:
                    yield i, _result(ray.get(ready))
                except ray.exceptions.RayTaskError as error:  # before our code: no leepjax there
                    raise ValueError(_cannot_start(error)) from None
                except ray.exceptions.RuntimeEnvSetupError as error:
                    raise ValueError(f"cluster: a worker cannot start: {one_line(error)}") from None
                except ray.exceptions.RayError as error:
                    if deaths < AGAIN:
                        to_do.appendleft((i, deaths + 1))
                    else:
                        yield i, Failed(_death(error, deaths + 1))
    finally:
        for ready in running:
            with contextlib.suppress(Exception):
                ray.cancel(ready, force=True)


class _Refused(NamedTuple):
    """What a worker says that cannot do any piece."""

    why: str


_HELD: dict[str, Any] = {}  # the function that this worker has, by its object's name


def _work(here: dict[str, str], held: list[Any], piece: Any) -> Any:
    """One piece, on a worker."""
    try:
        check_versions(here)
    except ValueError as error:
        return _Refused(str(error))
    name = held[0].hex()
    if name not in _HELD:
        _HELD.clear()
        keep_programs()
        _HELD[name] = import_ray().get(held[0])
    try:
        return _HELD[name](piece)
    except Exception as error:
        return Failed(_portable(error))


def _result(value: Any) -> Any:
    if isinstance(value, _Refused):
        raise ValueError(value.why)
    return value


def _check_answers(address: str) -> None:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(f"cluster: wanted auto, local:N or HOST:PORT, got {address!r}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER).close()
    except (OSError, OverflowError) as error:
        raise ValueError(f"cluster: nothing answers at {address} ({error})") from None


def _portable(error: Exception) -> Exception:
    """An error that can be sent."""
    try:
        pickle.loads(pickle.dumps(error))
        return error
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {one_line(error)}")


def _cannot_start(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if "Error" in line]
    return (
        "cluster: a worker cannot run leepjax; install the same leepjax on every node "
        f"({lines[-1].strip() if lines else one_line(error)})"
    )


def _death(error: Exception, times: int) -> Exception:
    kind = type(error).__name__
    if kind == "OutOfMemoryError":
        return MemoryError(
            f"its node ran out of memory {times} times; run fewer pieces at once there, as by "
            "resources={'memory': BYTES}"
        )
    return WorkerDied(f"its worker died {times} times ({kind})")
