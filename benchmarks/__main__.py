"""How fast, and how exact, against other packages and the machine?

    python -m benchmarks scores --size large

Each benchmark is a file of this folder; `python -m benchmarks NAME --help` lists its flags.
"""

import importlib
import sys
from collections.abc import Sequence

import tyro

BENCHMARKS = {
    "scores": "every score beside its peers and the machine's roof",
    "heads": "heads of many small tasks beside a loop of scikit-learn",
    "fine_tune": "fine-tuning of many small tasks beside a loop in PyTorch",
    "meta": "meta-steps of second-order MAML beside PyTorch",
    "compile": "every program by another platform's compiler: seconds, bytes, memory",
    "folder": "a folder of images read into the cache, beside a plain loop of Pillow",
    "scaling": "operations of a device as devices are added, each with the same share",
    "streams": "a stream of generated blocks: samples a second, and the peak of memory",
    "all": "scores, compile, fine_tune and meta, in one file: for a machine to be measured",
    "ranking": "a ranking of cached sources: seconds, and the peak of memory",
    "texts": "layers of a language model ranked here and by transformer-ranker",
    "cluster": "work on two nodes, with workers, nodes and drivers killed, beside one process",
    "samples": "samples scored through Ray Data while a node dies, beside one process",
    "accuracy": "float32 scores beside float64",
    "fuzz": "metrics, readers and names on input that nobody would think of",
    "replicates": "every statistic in 10,000 replicates",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark that comes first, and turn bad input into one clear line."""
    name, *others = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("-h", "--help"):
        print("usage: python -m benchmarks NAME [FLAGS]\n")
        print("\n".join(f"  {name:11} {what}" for name, what in BENCHMARKS.items()))
    elif name not in BENCHMARKS:
        sys.exit(f"error: NAME: wanted one of {', '.join(BENCHMARKS)}, got {name!r}")
    else:
        benchmark = importlib.import_module(f"benchmarks.{name}")
        config = tyro.cli(benchmark.Config, args=others, prog=f"python -m benchmarks {name}")
        try:
            benchmark.main(config)
        except ValueError as error:
            sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
