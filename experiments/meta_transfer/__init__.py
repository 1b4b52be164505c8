r"""Does a score predict what meta-transfer reaches: a learner that has learnt to adapt?

    python -m experiments.meta_transfer

trains a Conv4 to classify Latin, Greek and Cyrillic glyphs and their quarter turns; meta-trains two
learners from it on few-shot episodes of those scripts: meta-transfer learning (MTL, which the LEEP
article used) and a ridge head; adapts each to 600 tasks of five characters within one unseen
script, with 1 and with 5 labelled images of each; and holds scores of the classifier on those
labelled images against the accuracy reached, beside that of its retrained head. On real data:

    python -m experiments.meta_transfer \
        --source-data omniglot:small1 --target-data omniglot:small2 --across --test-shots 6 \
        --algorithms maml anil meta_sgd mtl protonet ridge

The hyper-parameters of the default were chosen on three scripts that its tasks are not drawn from,
armenian, hebrew and nko (`--target-data glyphs:armenian+hebrew+nko`). Trained learners are kept in
the cache; training that was interrupted goes on. Results are in docs/results.
"""

from experiments.meta_transfer.study import PRESETS as PRESETS
from experiments.meta_transfer.study import Config as Config
from experiments.meta_transfer.study import main as main
from experiments.meta_transfer.study import run as run
