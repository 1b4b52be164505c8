# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # LEEP in five minutes
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/)
#
# A network has learnt digits. It is shown Greek letters, which it has never seen. It answers with
# digits, so every answer is wrong. From these wrong answers LEEP predicts how well the network
# would transfer, before anything is trained, from one pass over the labelled images.
#
# Nothing is downloaded. The images, *Glyphs*, are drawn here from the typefaces that come with
# matplotlib.

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
import unicodedata

import matplotlib.pyplot as plt
import numpy as np
from rich.console import Console

from leepjax import (
    correlate,
    extract,
    load,
    retrain_head,
    sample_tasks,
    score_tasks,
    train_source,
)
from leepjax.metrics import (
    ExpectedEmpiricalPredictor,
    leep,
    leep_gain,
    neg_label_entropy,
    uncertainty,
)
from leepjax.models import SourceRecipe, accuracy
from leepjax.report import print_correlations, scatter, verdict

plt.rcParams.update({"figure.dpi": 90, "axes.spines.top": False, "axes.spines.right": False})
plt.switch_backend(plt.get_backend())  # only then do cells show the figures that they end with

# %% [markdown]
# ## A source model
#
# A small network learns digits in a few typefaces, and is tested on other typefaces. (There is no
# three: it looks like the Cyrillic З, and Glyphs keeps one of two characters that look alike.)

# %%
digits, greek = load("glyphs:digits"), load("glyphs:greek")
source = train_source("mlp", digits, SourceRecipe(steps=400))
print(f"digits of unseen typefaces: {accuracy(source, digits.test):.2f} right")

# %% [markdown]
# ## 1. Dummy labels
#
# The target task is five Greek letters, 90 images of each. What the source model predicts for an
# image is its *dummy label*. It is not one digit, but a probability of each digit.

# %%
digit = [unicodedata.lookup(name) for name in source.class_names]
letter = [unicodedata.lookup(name) for name in greek.train.class_names]
outputs = extract(source, greek.train)
all_probs = np.asarray(jax.nn.softmax(outputs.logits))


def task(letters):
    """The images of some letters, and their labels 0, 1, ... in this order."""
    classes = [letter.index(x) for x in letters]
    rows = np.flatnonzero(np.isin(greek.train.labels, classes))
    return rows, np.array([classes.index(c) for c in greek.train.labels[rows]])


letters = "εικσω"
c = len(letters)
rows, labels = task(letters)
probs = all_probs[rows]  # [n, 9]: all that LEEP reads of the model

figure, axes = plt.subplots(4, c, figsize=(6.2, 5.6), layout="constrained")
for y, column in enumerate(axes.T):
    for axis, i in zip(column, np.flatnonzero(labels == y)[:4], strict=True):
        z = probs[i].argmax()
        axis.imshow(greek.train.images[rows[i], ..., 0], cmap="gray_r")
        axis.set_title(f"{letters[y]} is {digit[z]} to it ({probs[i, z]:.2f})", fontsize=9)
        axis.axis("off")
figure.suptitle("Every answer is wrong, but not at random", fontweight="bold", fontsize=10)
plt.show()

# %% [markdown]
# ## 2. The conditional table
#
# How often does each letter occur with each dummy label? Summing the probabilities by letter gives
# the joint distribution $\hat P(y, z)$. Dividing each column by its sum gives $\hat P(y \mid z)$:
# *if the model says 7, which letter is it?*

# %%
joint = np.stack([probs[labels == y].sum(0) for y in range(c)]) / len(labels)
conditional = joint / joint.sum(0)
predictor = ExpectedEmpiricalPredictor.fit(
    probs, labels, num_classes=c
)  # the same, as a classifier
np.testing.assert_allclose(predictor.conditional, conditional, atol=1e-4)


def heat_map(axis, table, letters, title):
    axis.imshow(table, cmap="Blues", vmin=0, vmax=1)
    axis.set_xticks(range(len(digit)), digit)
    axis.set_yticks(range(len(letters)), list(letters))
    axis.set(xlabel="dummy label z", ylabel="letter y", title=title)
    for (y, z), p in np.ndenumerate(table):
        look = {"color": "white" if p > 0.6 else "0.2", "fontsize": 8}
        axis.text(z, y, f"{p:.2f}", ha="center", va="center", **look)


figure, axis = plt.subplots(figsize=(6.2, 3.6), layout="constrained")
heat_map(axis, conditional, letters, "P(y | z): columns sum to one")
plt.show()

# %% [markdown]
# ## 3. The hypothetical classifier
#
# Draw a digit from the model, then a letter from that digit's column:
#
# $$p(y \mid x) = \sum_z \hat P(y \mid z)\, \theta_z(x)$$
#
# Nobody trained this classifier, and yet it is better than chance. **LEEP is its mean
# log-likelihood.**

# %%
predicted = probs @ conditional.T  # [n, c]
likelihood = np.log(predicted[np.arange(len(labels)), labels]).mean()
score = float(leep(probs, labels, num_classes=c))
right = (predicted.argmax(1) == labels).mean()
print(f"hypothetical classifier   {right:.2f} right, chance {1 / c:.2f}")
print(f"its mean log-likelihood   {likelihood:.6f}")
print(f"leep(...)                 {score:.6f}")
print(f"exp(leep)                 {np.exp(score):.2f}, geometric mean of the right letter's p")
assert abs(likelihood - score) < 1e-4

# %% [markdown]
# ## 4. What the model adds
#
# The frequencies of the letters alone give $-H(Y)$, here $-\log 5$. The difference of LEEP to it,
# its *gain*, is what the model adds. It is measured in nats and never negative. It can be compared
# between tasks with different numbers of classes, and LEEP cannot.
#
# Beside it are five letters, in most of which the model sees a zero. A zero then says little about
# the letter, and LEEP is lower.

# %%
figure, axes = plt.subplots(1, 2, figsize=(9.6, 3.4), layout="constrained")
for axis, name in zip(axes, (letters, "ανσυπ"), strict=True):
    some, y = task(name)
    value = leep(all_probs[some], y, num_classes=c)
    null = neg_label_entropy(y, num_classes=c)
    gain = leep_gain(all_probs[some], y, num_classes=c)
    table = ExpectedEmpiricalPredictor.fit(all_probs[some], y, num_classes=c).conditional
    heat_map(axis, np.asarray(table), name, f"LEEP {value:.2f}, gain {gain:.2f}")
    print(f"{' '.join(name)}:  LEEP {value:.3f}   -H(Y) {null:.3f}   gain {gain:.3f} nats")
plt.show()

# %% [markdown]
# ## 5. How certain is LEEP?
#
# The standard error is for other images of the same letters. It takes one gradient (the
# infinitesimal jackknife). The null shuffles the labels: it shows what LEEP would be if letters
# and predictions were unrelated.

# %%
measured = uncertainty.influence(leep, probs, labels, num_classes=c)
null = np.asarray(
    uncertainty.permutation_null(jax.random.key(0), leep, probs, labels, num_classes=c)
)
p = (1 + (null >= score).sum()) / (1 + len(null))
print(f"LEEP {measured.score:.3f} ± {measured.standard_error:.3f}")
print(
    f"labels shuffled {len(null)} times: {null.mean():.3f}, at most {null.max():.3f}; p = {p:.3f}"
)

figure, axis = plt.subplots(figsize=(6.2, 2.6), layout="constrained")
axis.hist(null, bins=np.linspace(-1.65, -1.45, 21), color="0.6", label="labels shuffled")
bar = {"xerr": 1.96 * measured.standard_error, "fmt": "o", "capsize": 3}
axis.errorbar(score, len(null) / 8, **bar, label="LEEP, 95 %")
axis.axvline(-np.log(c), color="0.2", linestyle=":", label="−H(Y)")
axis.legend(frameon=False, loc="upper center")
axis.set(xlabel="score", ylabel="shuffles")
axis.set_title("Far from what labels without a meaning give", fontsize=10, fontweight="bold")
plt.show()

# %% [markdown]
# ## 6. Does it predict transfer?
#
# Those two tasks were chosen to differ clearly. Here are tasks drawn at random: five Greek
# letters, 20 images of each. For each task LEEP is computed. Then a new head is trained on the
# network's features and tested on typefaces that were not used before. If LEEP predicts transfer,
# accuracy rises with it. If its theory adds something, accuracy rises more closely with LEEP than
# with the *nulls*, nearest neighbours and a linear probe on the same features.

# %%
tasks = sample_tasks(jax.random.key(0), greek, num_tasks=12 if SMALL else 60, ways=c, shots=20)
metrics = ("leep", "knn", "linear_probe")
scores = score_tasks(tasks, features=outputs.features, logits=outputs.logits, metrics=metrics)
heads = retrain_head(outputs.features, extract(source, greek.test).features, tasks)
table = correlate(
    scores,
    heads.accuracy,
    tasks,
)
print_correlations(f"{len(heads.accuracy)} tasks", table, Console(width=112))

# %%
scatter(None, verdict(table), scores, heads.accuracy, table)

# %% [markdown]
# LEEP predicts transfer: its confidence interval, clustered on shared letters, is above zero. It
# does not predict more than a null does. This is why the package exists: it shows no correlation
# without its interval, and no score without the nulls that it must beat.
#
# Numbers differ a little between machines and versions of jax. The findings do not.
#
# Next: the article's study (`02_transfer_accuracy_study`), models that have learnt to adapt
# (`03_meta_transfer`), and your own model (`04_your_own_model`). The score is from C. Nguyen, T.
# Hassner, M. Seeger, C. Archambeau, *LEEP: A New Measure to Evaluate Transferability of Learned
# Representations*, ICML 2020.
