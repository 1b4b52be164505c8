r"""Does a score of the source model predict the accuracy of the transferred model?

A source model is trained (or imported), and target tasks are drawn. Scores are computed from each
task's labelled images. The model is transferred to each task, and the scores are compared with test
accuracy, with confidence intervals clustered on target classes, and beside nulls. The transfer is a
retrained head, the whole network fine-tuned, or, for comparison, the same network from scratch.

    python -m experiments.transfer_accuracy

trains a Conv4 on Latin, Greek and Cyrillic glyphs and transfers it to 200 tasks of five characters
within one other script, then to 200 tasks across scripts. The study on real data, in the three
regimes of the LEEP paper:

    python -m experiments.transfer_accuracy \
        --source-model resnet20 --source-weights cifar10_resnet20.safetensors \
        --target-data fashion_mnist --regime small --num-tasks 200

and with the whole network, with a learning rate chosen for every task on held-out training images:

    python -m experiments.transfer_accuracy --learner fine_tune --devices all \
        --learning-rates 0.01 0.1 --validation 0.2

To resume an interrupted run, give the same command again. Results with their intervals are in
docs/results.
"""

from experiments.transfer_accuracy.config import PRESETS as PRESETS
from experiments.transfer_accuracy.config import Config as Config
from experiments.transfer_accuracy.study import main as main
from experiments.transfer_accuracy.study import run as run
