"""Does a higher score mean that fine-tuning converges faster than training from scratch?

    python -m experiments.convergence --devices all

fine-tunes the source model on every task and trains the same network from scratch by the same
recipe. It follows the difference of their test accuracies from epoch to epoch. A figure with
intervals shows its mean in five levels of LEEP. A table correlates its mean over all epochs (the
area between the two curves) with every score. The LEEP article claims that the difference is
larger, and appears earlier, for tasks with a higher score. The two runs are those of

    python -m experiments.transfer_accuracy --learner fine_tune
    python -m experiments.transfer_accuracy --learner from_scratch

with the same other flags. A finished run is read, and an interrupted one resumes. Results are in
docs/results.
"""

from experiments.convergence.study import Config as Config
from experiments.convergence.study import main as main
from experiments.convergence.study import run as run
