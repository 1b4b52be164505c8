"""Do scores between tasks say which tasks to train together?

    python -m experiments.multitask_groups

trains a small network on each of twelve tasks (ten characters of one script of Glyphs, 30 images
each); scores it on the training images of every other task by LEEP gain and its rivals; makes an
affinity of each score and, by SciPy's average linkage, four groups; trains jointly (one body, one
head for each task) every group, random groups of the same sizes, every pair of tasks, and all
together; and says, task by task, what that is ahead of training alone and of the random groups by,
and whether a score (of networks trained anew, from other parameters) goes with what two tasks gain
from each other. Beside it stand nulls that look at no network: how near mean images are, and
whether the data set is the same. On real data:

    python -m experiments.multitask_groups \
        --target-data fashion_mnist cifar10 omniglot:small1 omniglot:small2 \
        --ways 3 3 10 10 --shots 50 50 14 14 --steps 100 --num-random 3

A task has as many updates, and in each as many of its own images, in a group of any size as alone.
A run that is interrupted goes on where it was when the same command is given again. Results are in
docs/results/multitask_groups.md.
"""

from experiments.multitask_groups.study import Config as Config
from experiments.multitask_groups.study import main as main
from experiments.multitask_groups.study import run as run
