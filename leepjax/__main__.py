"""The command ``leepjax``: scores and rankings of arrays on disk, published tables recomputed.

    leepjax score predictions.npy labels.npy
    leepjax rank features/*.npz --labels labels.npy
    leepjax rank --hub timm/resnet18.a1_in1k microsoft/resnet-50 ./mine --data fashion_mnist
    leepjax audit results.csv

Your network can run in PyTorch, TensorFlow or anything else: only its outputs for the target's
images are needed, saved as arrays. Pre-trained networks in safetensors are run here. The command is
the same as ``python -m leepjax``.
"""

import io
import sys
from collections.abc import Sequence

import tyro
from rich.console import Console

from leepjax._store import keep_programs
from leepjax._text import printable
from leepjax.commands.audit import Audit, audit_table
from leepjax.commands.rank import Rank, rank_many
from leepjax.commands.score import Score, score_one

Command = Score | Rank | Audit
RUN = {Score: score_one, Rank: rank_many, Audit: audit_table}


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, run, and turn bad input into one clear line."""
    config = tyro.cli(
        Command,  # pyright: ignore[reportArgumentType]
        prog="leepjax",
        description="Scores and rankings of source models; published tables recomputed.",
        args=sys.argv[1:] if arguments is None else arguments,
    )
    for stream in (sys.stdout, sys.stderr):  # a character that they have not is no reason to stop
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    console = Console()
    console.width = max(console.width, 100)  # lines may wrap, but names must not be cut
    try:
        keep_programs()
        RUN[type(config)](config, console)
    except (ImportError, OSError, ValueError) as error:  # an extra; as of a full disk
        sys.exit(f"error: {printable(str(error))}")


if __name__ == "__main__":
    main()
