"""Which of several source models should be fine-tuned for a target, and what does the choice cost?

Sources are trained, imported or left untrained. Tasks are drawn from one target data set. Every
source is fine-tuned on every task, briefly and in full. Any way of choosing a source is then a
look-up in that table: by a score alone; by a null; by successive halving, in which a score names a
few sources and short fine-tunings keep the best of them; by halving all sources; by fine-tuning all
in full. Each way has its regret (test accuracy lost to the source that was best on that task) and
its cost.

    python -m experiments.select_source                                    # Glyphs, embedded
    python -m experiments.select_source --preset real --weights-dir DIR

``real`` takes cifar10_resnet20.safetensors, ..resnet32.., ..resnet56.. from DIR, trains Conv4s on
Glyphs and Omniglot, and transfers all to tasks of Fashion-MNIST. To resume an interrupted run, give
the same command again. Results are in docs/results/select_source.md.
"""

from experiments.select_source.study import Config as Config
from experiments.select_source.study import main as main
from experiments.select_source.study import run as run
