"""Checkpoints of meta-training: the newest one of one configuration, in a folder."""

import json
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from leepjax._store import differing, hold, whole, writing
from leepjax.models.source import tree_digest


class Checkpoints:
    """A folder of checkpoints of one configuration, held by this process; or none at all."""

    def __init__(self, folder: Path | None, identity: Mapping[str, Any]):
        self.folder = None if folder is None else Path(folder).absolute()
        self.identity = json.loads(json.dumps(identity, default=str))
        self._manager: ocp.CheckpointManager | None = None

    def __enter__(self) -> "Checkpoints":
        if self.folder is None:
            return self
        if jax.process_index() != 0:  # where Orbax writes no arrays
            me = jax.process_index()
            raise ValueError(f"checkpoint: wanted none in process {me}: process 0 alone writes")
        record = self.folder / "identity.json"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = open(self.folder / ".lock", "w")
        except OSError as error:
            raise ValueError(f"checkpoint: cannot write {self.folder} ({error})") from None
        try:
            hold(self._lock)
            there = json.loads(record.read_text()) if record.is_file() else None
        except (ValueError, RecursionError) as error:
            self._lock.close()
            raise ValueError(f"checkpoint: cannot use {self.folder}: {error}") from None
        if there is None:
            with whole(record) as part:
                part.write_text(json.dumps(self.identity, indent=2) + "\n")
        elif there != self.identity:
            self._lock.close()
            differs = differing(there, self.identity)
            raise ValueError(
                f"checkpoint: {self.folder} is of another configuration ({differs}); "
                "name another folder, or delete this one"
            )
        return self

    def _open(self) -> ocp.CheckpointManager:
        assert self.folder is not None
        me = jax.process_index()  # it alone writes: Orbax waits for no other process
        options = ocp.CheckpointManagerOptions(
            max_to_keep=1,
            enable_async_checkpointing=False,
            create=False,
            multiprocessing_options=ocp.options.MultiprocessingOptions(
                primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"meta{me}"
            ),
        )
        (self.folder / "steps").mkdir(exist_ok=True)
        return ocp.CheckpointManager(self.folder / "steps", options=options)

    def __exit__(self, *error: Any) -> None:
        if self.folder is not None:
            if self._manager is not None:
                self._manager.close()
            self._lock.close()

    def load(self, initial: Any) -> Any:
        """The newest checkpoint, or ``initial``, whose structure it has.

        One that is damaged, or that an earlier version wrote without a digest, is put aside, with a
        warning.
        """
        if self.folder is None:
            return initial
        like = jax.tree.map(np.asarray, initial)
        arguments = ocp.args.StandardRestore(like)  # pyright: ignore[reportCallIssue]
        try:
            self._manager = self._open()
            step = self._manager.latest_step()
            if step is None:
                return initial
            state, history = self._manager.restore(step, args=arguments)
            about = self._manager.metadata(step).custom_metadata or {}
            if about.get("digest") != tree_digest((state, history)):
                raise ValueError("the arrays are not those that were saved")
        except Exception as error:  # Orbax passes on whatever its parsers and its storage raise.
            aside = self.folder / "damaged"
            warnings.warn(
                f"{self.folder} is damaged and trained again ({error}); it was moved to {aside}",
                stacklevel=3,
            )
            shutil.rmtree(aside, ignore_errors=True)
            if (self.folder / "steps").exists():
                (self.folder / "steps").rename(aside)
            self._manager = self._open()
            return initial
        return jax.tree.map(jnp.asarray, state), jax.tree.map(np.array, history)

    def save(self, step: int, tree: Any) -> None:
        """Keep it in place of the one before."""
        if self.folder is not None:
            assert self._manager is not None  # load comes first
            tree = jax.tree.map(np.asarray, jax.device_get(tree))
            arguments = ocp.args.StandardSave(tree)  # pyright: ignore[reportCallIssue]
            about = {"digest": tree_digest(tree)}
            with writing(self.folder, Exception):
                self._manager.save(step, args=arguments, custom_metadata=about)

    def describe(self, step: int) -> str:
        """Where the last good one is."""
        if self.folder is None:
            return "No checkpoint was asked for."
        return (
            f"The last good one, of step {step}, is in {self.folder}; another rate needs another."
        )
