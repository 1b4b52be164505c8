"""Where meta-training goes on from: the newest checkpoint of one configuration, in a folder."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from leepjax._store import differing, hold, whole


class Checkpoints:
    """A folder of checkpoints of one configuration, held by this process; or none at all."""

    def __init__(self, folder: Path | None, identity: Mapping[str, Any]):
        self.folder = None if folder is None else Path(folder).absolute()
        self.identity = json.loads(json.dumps(identity, default=str))

    def __enter__(self) -> "Checkpoints":
        if self.folder is None:
            return self
        record = self.folder / "identity.json"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = open(self.folder / ".lock", "w")
        except OSError as error:
            raise ValueError(f"checkpoint: cannot write {self.folder} ({error})") from None
        try:
            hold(self._lock)
            there = json.loads(record.read_text()) if record.is_file() else None
        except ValueError as error:
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
        options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(self.folder / "steps", options=options)
        return self

    def __exit__(self, *error: Any) -> None:
        if self.folder is not None:
            self._manager.close()
            self._lock.close()

    def load(self, initial: Any) -> Any:
        """The newest checkpoint, or ``initial``, whose structure it has."""
        if self.folder is None or self._manager.latest_step() is None:
            return initial
        like = jax.tree.map(np.asarray, initial)
        arguments = ocp.args.StandardRestore(like)  # pyright: ignore[reportCallIssue]
        state, history = self._manager.restore(self._manager.latest_step(), args=arguments)
        return jax.tree.map(jnp.asarray, state), jax.tree.map(np.array, history)

    def save(self, step: int, tree: Any) -> None:
        """Keep it in place of the one before."""
        if self.folder is not None:
            arguments = ocp.args.StandardSave(  # pyright: ignore[reportCallIssue]
                jax.tree.map(np.asarray, jax.device_get(tree))
            )
            self._manager.save(step, args=arguments)

    def describe(self, step: int) -> str:
        """Where the last good one is."""
        if self.folder is None:
            return "No checkpoint was asked for."
        return (
            f"The last good one, of step {step}, is in {self.folder}; another rate needs another."
        )
