"""Does a higher score mean that fine-tuning converges sooner than training from scratch?

    python -m experiments.convergence --devices all

fine-tunes the source model on every task and trains the same network on it from scratch, by the
same recipe, and follows the difference of their test accuracies from epoch to epoch: its mean in
five levels of LEEP, as a figure with intervals, and its mean over all epochs (the area between the
two curves) held against every score. The LEEP article claims that the difference is larger, and
there sooner, for tasks with a higher score. The two runs are those of

    python -m experiments.transfer_accuracy --learner fine_tune
    python -m experiments.transfer_accuracy --learner from_scratch

with the same other flags: what is finished there is read, what was interrupted goes on. Results are
in docs/results.
"""

from experiments.convergence.study import Config as Config
from experiments.convergence.study import main as main
from experiments.convergence.study import run as run
