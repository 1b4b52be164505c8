"""LEEP, NCE and the H-score in many settings: which is best, significantly, and beside what nulls?

The table that the LEEP article is known for, with what it is worth. A grid of settings (sources,
targets, regimes, learners, meta-transfer) runs through the other experiments, each setting in a
directory of its own; then every score's correlation with accuracy is held against the others' in
paired differences whose intervals cluster, corrected for the number of comparisons, and against
the best null.

    python -m experiments.comparison --dry-run             # the plan, and what it lacks
    python -m experiments.comparison                       # Glyphs, which are embedded
    python -m experiments.comparison --grid real --weights-dir DIR
    python -m experiments.comparison --grid leep2020 --dry-run

``real`` wants cifar10_resnet20.safetensors, ..resnet32.., ..resnet56.. in DIR, and Fashion-MNIST
and Omniglot prepared. ``leep2020`` spells out the article's kinds of transfer, sources and targets;
the article counts 23 settings, and this cross product of them is ours.

The same command goes on where an earlier one stopped: settings that are finished are read. One that
cannot run is listed with the reason, and the others run. Results are in docs/results.
"""

from experiments.comparison.study import Config as Config
from experiments.comparison.study import main as main
from experiments.comparison.study import run as run
