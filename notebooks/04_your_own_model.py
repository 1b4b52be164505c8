# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Your own model
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/)
#
# Scores are functions of arrays. They take a model's outputs for some labelled images, and the
# labels, `[n]` integers. The outputs are `[n, s]` probabilities or logits of the model's own
# classes, `[n, d]` features, or both. It does not matter where they come from. Here they come from
# scikit-learn, from Flax and, if it is installed, from PyTorch. Then the models are ranked, with
# standard errors, and scored in streams and on many devices.
#
# Sources learn the digits 0 to 4. The target is 200 labelled images of 5 to 9. The other images of
# these digits show which source was really best. Nothing is downloaded. It takes a minute.

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
import importlib.util
import json
import tempfile

import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import nnx
from sklearn.linear_model import LogisticRegression

from leepjax import leep, load, rank, score
from leepjax.metrics import cross_fitted_leep, knn, sharding, streaming, uncertainty

plt.rcParams.update({"figure.dpi": 90, "axes.spines.top": False, "axes.spines.right": False})
plt.switch_backend(plt.get_backend())  # only then do cells show the figures that they end with

digits = load("digits").train
x = digits.images.reshape(len(digits.images), -1) / np.float32(255)
seen = digits.labels < 5
x_source, y_source = x[seen], digits.labels[seen]
x_target, labels = x[~seen][:200], digits.labels[~seen][:200] - 5
x_rest, y_rest = x[~seen][200:], digits.labels[~seen][200:] - 5
models, networks = {}, {}  # what each says of the target, and itself, by name
print(f"{len(x_source)} images to learn from, {len(x_target)} of the target, {len(x_rest)} left")

# %% [markdown]
# ## Plain arrays
#
# A model from scikit-learn. LEEP needs only its probabilities.

# %%
classifier = LogisticRegression(max_iter=1000).fit(x_source, y_source)
probs = classifier.predict_proba(x_target).astype(np.float32)
print(f"LEEP {leep(probs, labels, num_classes=5):.3f}")

# %% [markdown]
# `score` computes all scores that the arrays allow. What the scores share is computed once. With
# features, more scores are possible.

# %%
for name, value in score(labels, num_classes=5, probs=probs).items():
    print(f"{name:20} {value:.3f}")

# %% [markdown]
# ## Flax
#
# Any module that returns features and logits works. It needs no base class and no registration.


# %%
class Network(nnx.Module):
    def __init__(self, width, rngs):
        self.body = nnx.Linear(64, width, rngs=rngs)
        self.head = nnx.Linear(width, 5, rngs=rngs)

    def __call__(self, x):
        features = nnx.relu(self.body(x))
        return features, self.head(features)


def train(network, x, y, steps, rate):
    """The network after so many steps of Adam on all images at once."""
    graphdef, params = nnx.split(network, nnx.Param)
    optimiser = optax.adam(rate)

    def loss(params):
        logits = nnx.merge(graphdef, params)(x)[1]
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    @jax.jit
    def step(params, state):
        updates, state = optimiser.update(jax.grad(loss)(params), state)
        return optax.apply_updates(params, updates), state

    state = optimiser.init(params)
    for _ in range(steps):
        params, state = step(params, state)
    return nnx.merge(graphdef, params)


for name, width, steps in (("wide", 64, 300), ("narrow", 8, 300), ("untrained", 64, 0)):
    network = Network(width, nnx.Rngs(0))
    networks[f"flax {name}"] = train(
        network, x_source, y_source, min(steps, 20) if SMALL else steps, 1e-2
    )
for name, network in networks.items():
    features, logits = network(x_target)
    models[name] = {"features": np.asarray(features), "logits": np.asarray(logits)}

# %% [markdown]
# To fine-tune such a network on tasks, make it a `Source` with `leepjax.models.make_source`.
#
# ## PyTorch

# %%
if importlib.util.find_spec("torch"):
    import torch

    torch.manual_seed(0)
    body = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU())
    head = torch.nn.Linear(64, 5)
    optimiser = torch.optim.Adam([*body.parameters(), *head.parameters()], 1e-2)
    for _ in range(20 if SMALL else 300):
        logits = head(body(torch.tensor(x_source)))
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(y_source).long())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():  # from here on they are arrays
        features = body(torch.tensor(x_target))
        models["torch"] = {"features": features.numpy(), "logits": head(features).numpy()}
    print(f"PyTorch {torch.__version__}: one source more")
else:
    print("PyTorch is not installed here: this source is left out, the others do without it.")

# %% [markdown]
# ## Which one to transfer?
#
# `rank` takes arrays, as here, or files of arrays. It decides by a held-out score,
# `predictive_r2`: a linear head predicts each image after it was fitted to all others. The value
# of a score under shuffled labels stands in parentheses.

# %%
ranking = rank(models, labels)
print(ranking)

# %%
ranking.plot()

# %% [markdown]
# Was it right? Fine-tune each source with a new head on the 200 images, and test it on the images
# that were not used.

# %%
for name, network in networks.items():
    network.head = nnx.Linear(network.head.in_features, 5, rngs=nnx.Rngs(1))
    tuned = train(network, x_target, labels, 20 if SMALL else 200, 1e-3)
    accuracy = (np.asarray(tuned(x_rest)[1]).argmax(1) == y_rest).mean()
    print(f"{name:15} fine-tuned {accuracy:.3f}")

# %% [markdown]
# ## Standard errors
#
# A standard error shows how much a score would vary with another draw of equally many images. For
# every score that takes weights it comes from one gradient (`influence`), for the others from
# random halves (`subsample`). LEEP is judged on the samples that its table was fitted on;
# `cross_fitted_leep` is not.

# %%
probs = jax.nn.softmax(models["flax wide"]["logits"])
of_leep = uncertainty.influence(leep, probs, labels, num_classes=5)
print(f"LEEP {of_leep.score:.3f} ± {of_leep.standard_error:.3f}")
halves = uncertainty.subsample(
    jax.random.key(0),
    knn,
    models["flax wide"]["features"],
    labels,
    num_replicates=20 if SMALL else 200,
    num_classes=5,
)
print(
    f"knn  {knn(models['flax wide']['features'], labels, num_classes=5):.3f} ± {halves.std():.3f}"
)
held_out = cross_fitted_leep(probs, labels, num_classes=5)
print(f"LEEP on samples that its table has not seen: {held_out:.3f}")

# %% [markdown]
# Two models are scored on the same images, and the same images are hard for both. So their
# difference is known more precisely than their two standard errors suggest.

# %%
narrow = jax.nn.softmax(models["flax narrow"]["logits"])
both = [of_leep, uncertainty.influence(leep, narrow, labels, num_classes=5)]
covariance = uncertainty.covariance(both)
apart = np.sqrt(covariance[0, 0] + covariance[1, 1])
paired = np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
ahead = both[0].score - both[1].score
print(f"wide less narrow {ahead:+.3f} ± {paired:.3f}; from the two errors alone ± {apart:.3f}")

# %% [markdown]
# ## Data too large for memory
#
# LEEP needs two passes over the batches. In the second it asks for each sample what the whole data
# said about its dummy label. All other scores are ready after the first pass.

# %%
batches = [(labels[i : i + 100], probs[i : i + 100]) for i in range(0, len(labels), 100)]
stream = streaming.init(num_classes=5, num_source_classes=5)
for y, theta in batches:
    stream = streaming.update(stream, y, probs=theta)
stream = streaming.second_pass(stream)
for y, theta in batches:
    stream = streaming.update(stream, y, probs=theta)
print({name: round(float(value), 4) for name, value in streaming.finalize(stream).items()})
print(f"at once: {of_leep.score:.4f}")

# %% [markdown]
# ## Many devices
#
# `shard` distributes samples over the devices of a mesh, padded so that they divide evenly. Scores
# take such arrays directly. The mesh here consists of the available devices, even if there is only
# one.

# %%
mesh = jax.make_mesh((jax.device_count(),), ("data",))
shards = sharding.shard(mesh, probs=probs, labels=labels)
value = leep(shards["probs"], shards["labels"], num_classes=5, where=shards["where"])
print(f"{value:.4f} on {jax.device_count()} device{'s' * (jax.device_count() > 1)}")

# %% [markdown]
# If you have one device, you can try several in a separate process: CPU devices can be multiplied,
# but only before jax initialises its devices.

# %%
PROGRAM = """
import jax, json, numpy as np, sys
from leepjax.metrics import leep, sharding
arrays = np.load(sys.argv[1])
shards = sharding.shard(jax.make_mesh((4,), ("data",)), **arrays)
value = leep(shards["probs"], shards["labels"], num_classes=5, where=shards["where"])
sizes = [len(shard.data) for shard in shards["probs"].addressable_shards]
print(json.dumps({"score": float(value), "sizes": sizes}))
"""
with tempfile.TemporaryDirectory() as folder:
    np.savez(f"{folder}/arrays.npz", probs=probs, labels=labels)
    alone = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = [sys.executable, "-c", PROGRAM, f"{folder}/arrays.npz"]
    done = subprocess.run(command, env=alone, capture_output=True, text=True, check=True)
found = json.loads(done.stdout)
print(f"{found['score']:.4f} on four devices, with {found['sizes']} samples each, padding included")
assert abs(found["score"] - value) < 1e-4
