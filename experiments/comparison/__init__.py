"""LEEP, NCE and the H-score in many settings: is the best one significantly best, and above nulls?

This makes the table that the LEEP article is known for, with confidence intervals and tests. A grid
of settings (sources, targets, regimes, learners, meta-transfer) runs through the other experiments,
each setting in its own directory. Then every score's correlation with accuracy is compared with the
others', and with the best null, by paired differences with clustered intervals, corrected for the
number of comparisons.

    python -m experiments.comparison --dry-run             # the plan, and what it lacks
    python -m experiments.comparison                       # Glyphs, which are embedded
    python -m experiments.comparison --grid real --weights-dir DIR
    python -m experiments.comparison --grid leep2020 --dry-run

``real`` needs cifar10_resnet20.safetensors, ..resnet32.., ..resnet56.. in DIR, and Fashion-MNIST
and Omniglot prepared. ``leep2020`` lists the article's kinds of transfer, sources and targets. The
article counts 23 settings; this cross product of them is ours.

The same command resumes an earlier one: settings that are finished are read. A setting that cannot
run is listed with the reason, and the others run. Results are in docs/results.
"""

from experiments.comparison.study import Config as Config
from experiments.comparison.study import main as main
from experiments.comparison.study import run as run
