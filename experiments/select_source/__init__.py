"""Which of several source models should be fine-tuned for a target, and what does finding out cost?

Sources are trained, imported or left untrained; tasks are drawn from one target data set; every
source is fine-tuned on every task, briefly and in full. Then any way of choosing a source is a
look-up in that table: by a score alone, by a null, by a score that names a few of which short real
fine-tunes keep the best (successive halving), by halving all of them, by fine-tuning all in full.
Each has its regret (test accuracy lost to the source that was best on that task) and its cost.

    python -m experiments.select_source                                    # Glyphs, embedded
    python -m experiments.select_source --preset real --weights-dir DIR

``real`` takes cifar10_resnet20.safetensors, ..resnet32.., ..resnet56.. from DIR, trains Conv4s on
Glyphs and Omniglot, and transfers all to tasks of Fashion-MNIST. A run that is interrupted goes on
where it was when the same command is given again. Results are in docs/results/select_source.md.
"""

from experiments.select_source.study import Config as Config
from experiments.select_source.study import main as main
from experiments.select_source.study import run as run
