"""Can LEEP choose hyper-parameters of pre-training, without any transfer?

    python -m experiments.hyperparameters

makes the candidates of five choices (checkpoints of one training, layers to cut at, widths,
augmentations, subsets of the source classes). It scores each candidate on the labelled images of 60
target tasks, and takes for every task the candidate with the highest score. The cost is the regret:
the test accuracy of the best candidate's retrained head minus that of the candidate taken. Choosing
by full training has no regret. Cross-fitted LEEP, which judges on images that its predictor has not
seen, is compared with the other scores and with nulls: a head validated on half the training
images, 5 nearest neighbours, a linear probe, the source's own accuracy, the default (what you would
use without choosing), and chance.

Differentiable parameters are chosen by gradient: a temperature, weights of the source classes, and
a mixture of the sources of the last choice. Each is chosen on a task's training images and judged
on its test images.

On real data (Conv4s trained on CIFAR-10 and the layers of a ResNet20, for tasks of Fashion-MNIST):

    python -m experiments.hyperparameters \
        --source-data cifar10 --source-weights cifar10_resnet20.safetensors \
        --source-subsets airplane+automobile+ship+truck bird+cat+deer+dog+frog+horse \
        --target-data fashion_mnist --shots 50 --test-shots 200

Sources are kept in the cache. Results are in docs/results/hyperparameters.md.
"""

from experiments.hyperparameters.study import Config as Config
from experiments.hyperparameters.study import main as main
from experiments.hyperparameters.study import run as run
