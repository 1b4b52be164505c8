"""Can LEEP choose hyper-parameters of pre-training, without any transfer?

    python -m experiments.hyperparameters

makes the candidates of five choices (moments of one training, layers to cut at, widths,
augmentations, subsets of the source classes), scores each on the labelled images of 60 target
tasks, and takes for every task the candidate of the highest score. What that costs is its regret:
the test accuracy of the best candidate's retrained head less that of the one taken; choosing by
full training has none. Cross-fitted LEEP, which judges on images that its predictor has not seen,
stands beside the other scores and the nulls: a head validated on half the training images, 5
nearest neighbours, a linear probe, the source's own accuracy, what one would take without choosing,
and chance.

What is differentiable is chosen by gradient: a temperature, weights of the source classes, a
mixture of the sources of the last choice; each on a task's training images, judged on its test
images.

On real data, Conv4s trained on CIFAR-10 and the layers of a ResNet20, for tasks of Fashion-MNIST:

    python -m experiments.hyperparameters \
        --source-data cifar10 --source-weights cifar10_resnet20.safetensors \
        --source-subsets airplane+automobile+ship+truck bird+cat+deer+dog+frog+horse \
        --target-data fashion_mnist --shots 50 --test-shots 200

Sources are kept in the cache. Results are in docs/results/hyperparameters.md.
"""

from experiments.hyperparameters.study import Config as Config
from experiments.hyperparameters.study import main as main
from experiments.hyperparameters.study import run as run
