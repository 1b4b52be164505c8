"""Do scores between tasks predict which tasks to train together?

    python -m experiments.multitask_groups

trains a small network on each of twelve tasks (ten characters of one script of Glyphs, 30 images
each). It scores each network on the training images of every other task by LEEP gain and other
scores. From each score it makes an affinity of tasks and, by SciPy's average linkage, four groups.
It trains jointly (one body, one head for each task) every group, random groups of the same sizes,
every pair of tasks, and all tasks. It reports, task by task, the gain over training alone and over
the random groups, and the correlation of a score with what two tasks gain from each other. For this
correlation the networks are trained again from other parameters. Nulls that use no network are
reported too: the distance of mean images, and whether the data set is the same. On real data:

    python -m experiments.multitask_groups \
        --target-data fashion_mnist cifar10 omniglot:small1 omniglot:small2 \
        --ways 3 3 10 10 --shots 50 50 14 14 --steps 100 --num-random 3

In a group of any size, a task has as many updates, and in each as many of its own images, as alone.
To resume an interrupted run, give the same command again. Results are in
docs/results/multitask_groups.md.
"""

from experiments.multitask_groups.study import Config as Config
from experiments.multitask_groups.study import main as main
from experiments.multitask_groups.study import run as run
