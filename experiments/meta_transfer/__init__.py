r"""Does a score predict the accuracy of meta-transfer, by a learner that has learnt to adapt?

    python -m experiments.meta_transfer

trains a Conv4 to classify Latin, Greek and Cyrillic glyphs and their quarter turns. From it, two
learners are meta-trained on few-shot episodes of those scripts: meta-transfer learning (MTL, which
the LEEP article used) and a ridge head. Each is adapted to 600 tasks of five characters within one
unseen script, with 1 and with 5 labelled images of each. Scores of the classifier on those labelled
images are compared with the accuracy of the learners and of a retrained head. On real data:

    python -m experiments.meta_transfer \
        --source-data omniglot:small1 --target-data omniglot:small2 --across --test-shots 6 \
        --algorithms maml anil meta_sgd mtl protonet ridge

The hyper-parameters of the default were chosen on three scripts that its tasks are not drawn from,
armenian, hebrew and nko (`--target-data glyphs:armenian+hebrew+nko`). Trained learners are saved in
the cache. Interrupted training resumes. Results are in docs/results.
"""

from experiments.meta_transfer.study import PRESETS as PRESETS
from experiments.meta_transfer.study import Config as Config
from experiments.meta_transfer.study import main as main
from experiments.meta_transfer.study import run as run
