# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The transfer accuracy study
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/)
#
# The LEEP article compares the score with the accuracy after transfer in three figures. They show
# accuracy task by task with a line through it, mean accuracy in five levels of the score, and how
# much faster fine-tuning converges than training from scratch. Here are small versions of them.
# They add what the article does not have: confidence intervals that are clustered on shared
# classes, and *nulls*, baselines that need no theory and that a score must beat.
#
# The commands `python -m experiments.transfer_accuracy` and `python -m experiments.convergence`
# run the full study. Nothing is downloaded. On two CPU cores this notebook takes a few minutes.

# %%
# @title Set-up { display-mode: "form" }
# Installs leepjax if it is missing, keeps the installed jax, and prints what this runs on. SMALL:
# the sizes of the tests, to check quickly that everything works. The results then mean nothing.
import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

PACKAGE = "leepjax[all]"  # or "leepjax[all] @ git+https://ADDRESS", or "FOLDER[all]"
SMALL = os.environ.get("LEEPJAX_NOTEBOOK_SMALL") == "1"
LEAST = {"jax": (0, 7, 2), "flax": (0, 11, 2)}


def stop(problem, remedy):
    sys.exit(f"{problem}. {remedy}, then run this cell again.")


if sys.version_info < (3, 11):
    have = ".".join(map(str, sys.version_info[:3]))
    newer = "On Colab: Runtime, Change runtime type, the latest version; elsewhere, an environment"
    stop(f"Python 3.11 or newer is wanted, this is {have}", f"{newer} of a newer Python")
kept = []
for name, least in LEAST.items():
    if importlib.util.find_spec(name):
        have = importlib.metadata.version(name)
        if tuple(map(int, re.findall(r"\d+", have)[:3])) < least:
            wanted = ".".join(map(str, least))
            remedy = f'Run: pip install --upgrade "{name}>={wanted}", restart the runtime'
            stop(f"{name} {wanted} or newer is wanted, this is {have}", remedy)
        kept.append(f"{name}=={have}")
if importlib.util.find_spec("leepjax") is None:
    wanted = "..[all]" if Path("../leepjax/metrics").is_dir() else PACKAGE  # a checkout around us
    command = [sys.executable, "-m", "pip", "install", "--quiet", wanted, *kept]
    if subprocess.run(command).returncode:
        stop(f"pip could not install {wanted!r}", "Name what it can install in PACKAGE above")
    importlib.invalidate_caches()

import jax

print(f"Python {sys.version.split()[0]}, jax {jax.__version__}, {jax.devices()}")
if jax.default_backend() == "cpu":
    print("No accelerator: everything here runs on a CPU too.")

# %%
import matplotlib.pyplot as plt
import numpy as np
from rich.console import Console

from leepjax import (
    Recipe,
    correlate,
    extract,
    fine_tune,
    from_scratch,
    load,
    retrain_head,
    sample_tasks,
    score_tasks,
    train_source,
)
from leepjax.evaluation import NULLS, cluster_membership, in_levels
from leepjax.models import SourceRecipe, accuracy
from leepjax.report import (
    draw_levels,
    finding,
    print_correlations,
    print_levels,
    scatter,
    verdict,
)

plt.rcParams.update({"figure.dpi": 90, "axes.spines.top": False, "axes.spines.right": False})
plt.switch_backend(plt.get_backend())  # only then do cells show the figures that they end with
console = Console(width=112)

# %% [markdown]
# ## Source and targets
#
# A Conv4 learns 137 characters of Latin, Greek and Cyrillic. The targets are scripts that it has
# never seen. They are tested on typefaces on which nothing was trained.

# %%
source_data = load("glyphs:latin+greek+cyrillic")
target = load("glyphs:nko+tifinagh+ogham" if SMALL else "glyphs:-latin-greek-cyrillic")
source = train_source("conv4", source_data, SourceRecipe(steps=40 if SMALL else 1200))
print(f"source: {len(source.class_names)} classes, {accuracy(source, source_data.test):.2f} right")
print(f"targets: {target.train.num_classes} classes, {', '.join(target.train.group_names)}")
train, test = (extract(source, bank) for bank in target)

# %% [markdown]
# ## 1. LEEP against accuracy
#
# A task has five characters of one script, with 20 images each. Scores use the labelled images. A
# new head is trained on the same images. Accuracy is measured on the test images.

# %%
METRICS = ("leep", "nce", "h_score", "knn", "linear_probe", "neg_label_entropy")


def study(tasks):
    """Scores of every task, what its head reaches, and how the two go together."""
    scores = score_tasks(tasks, features=train.features, logits=train.logits, metrics=METRICS)
    reached = retrain_head(train.features, test.features, tasks).accuracy
    table = correlate(
        scores,
        reached,
        tasks,
    )
    return scores, reached, table


tasks = sample_tasks(
    jax.random.key(0), target, num_tasks=26 if SMALL else 200, ways=5, shots=20, within_groups=True
)
scores, reached, table = study(tasks)
print(f"accuracy {reached.mean():.3f} ± {reached.std():.3f} (standard deviation)")
print_correlations("Five characters of one script", table, console)

# %%
shown = [row for row in table if np.isfinite(row.estimates["pearson"].value)]
scatter(None, verdict(table), scores, reached, shown)

# %% [markdown]
# Stars and "(null)" mark the nulls. −H(Y) is constant here, because all tasks have five classes of
# 20 images, so it can explain nothing. "r | group" is the correlation within scripts.
#
# ## The same where tasks differ in size
#
# With 2 to 10 classes a task, LEEP has about the same r. But −H(Y), which never looks at the
# model, comes close to it: tasks with fewer classes are easier, and that alone explains most of r.
# The sign of the H-score's r changes, because the H-score grows with the number of classes. "r |
# class count" is the correlation among tasks with equally many classes.

# %%
ways = (2, 3) if SMALL else (2, 10)
sizes = sample_tasks(jax.random.key(1), target, num_tasks=26 if SMALL else 200, ways=ways, shots=20)
print_correlations("{} to {} characters of any script".format(*ways), study(sizes)[2], console)

# %% [markdown]
# ## 2. Five levels
#
# The tasks of the first figure are divided into fifths of each score. The figure shows the mean
# accuracy of each fifth. Intervals are clustered on scripts.

# %%
figure, axis = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
looks = {"leep": "o-", "nce": "s-", "knn": "^--", "linear_probe": "v--"}
colours = ("#0072B2", "#009E73", "#D55E00", "#CC79A7")  # told apart by colour-blind readers too
for i, (name, look) in enumerate(looks.items()):
    fifths = in_levels(scores[name], reached[:, None], cluster_membership(tasks.groups))
    mean, low, high = np.array([[f.mean[0], f.low[0], f.high[0]] for f in fifths]).T
    at = np.arange(1, 6) + 0.1 * (i - 1.5)
    label = f"{name} (null)" if name in NULLS else name
    bars = {"fmt": look, "color": colours[i], "ms": 4, "capsize": 2}
    axis.errorbar(at, mean, (mean - low, high - mean), label=label, **bars)
axis.set(xlabel="fifth of the tasks, by score", ylabel="test accuracy (95 %, clustered)")
axis.set_xticks(range(1, 6), ["lowest", "2", "3", "4", "highest"])
axis.legend(frameon=False, loc="lower right")
axis.set_title("Accuracy rises from level to level, by the nulls as by LEEP", fontsize=10)
plt.show()

# %% [markdown]
# ## 3. Convergence
#
# The whole network is fine-tuned on each task. The same network is also trained from scratch by
# the same recipe. The figure shows the lead of fine-tuning, epoch by epoch, in levels of LEEP. The
# article claims that the lead is larger and comes earlier where LEEP is high.

# %%
some = sample_tasks(
    jax.random.key(2),
    target,
    num_tasks=10 if SMALL else 65,
    ways=5,
    shots=20,
    test_shots=10 if SMALL else 30,
    within_groups=True,
)
recipe = Recipe(epochs=2 if SMALL else 10)
tuned = fine_tune(jax.random.key(3), source, target, some, recipe)
scratch = from_scratch(jax.random.key(3), source, target, some, recipe)
print(f"fine-tuned {tuned.accuracy.mean():.3f}, from scratch {scratch.accuracy.mean():.3f}")

# %%
ahead = tuned.test_accuracy - scratch.test_accuracy  # [t, epochs + 1]
of_some = score_tasks(some, features=train.features, logits=train.logits, metrics=METRICS)
levels = in_levels(of_some["leep"], ahead, cluster_membership(some.groups))
print_levels("within scripts", "leep", levels, console)
draw_levels(None, finding(levels, "leep"), "leep", levels)

# %% [markdown]
# The table compares every score, and the nulls, with the lead averaged over all epochs.

# %%
of_ahead = correlate(
    of_some,
    ahead[:, 1:].mean(1),
    some,
)
print_correlations("Scores against what fine-tuning is ahead by", of_ahead, console)

# %% [markdown]
# ## 4. Real data, if available
#
# Fashion-MNIST is used if TFDS has prepared it (`TFDS_DATA_DIR`, or `~/tensorflow_datasets`). If
# it is not there and cannot be downloaded, the study ends with the embedded Glyphs above.

# %%
try:
    target = load("fashion_mnist")
except ValueError as problem:
    print(f"Glyphs alone. {problem}")
else:
    train, test = (extract(source, bank) for bank in target)
    clothes = sample_tasks(
        jax.random.key(4), target, num_tasks=26 if SMALL else 200, ways=5, shots=50, test_shots=200
    )
    print_correlations("Five classes of Fashion-MNIST", study(clothes)[2], console)

# %% [markdown]
# Fashion-MNIST has ten classes, however many tasks are drawn from them. This makes its intervals
# wide. An interval that takes tasks for independent would hide it.
#
# In short: on Glyphs, LEEP correlates with the accuracy after transfer, and so do scores that need
# no theory. Numbers differ a little between machines and versions of jax. The findings do not. The
# folder `docs/results` has the same studies with larger samples, with ResNets, and with other
# scores.
