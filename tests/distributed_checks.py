"""What each of several processes runs: ``tests.distributed_checks PORT N ID FOLDER NAME...``.

Every check makes a joint call, and compares it with the same call on one device of this process.
"""

import dataclasses
import os
import signal
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from leepjax import distributed

LOCAL_DEVICES = 2
FOLDER = Path()


def alone(fn):
    """``fn`` with a cache that no joint call has filled; in process 0 only, the others wait."""
    if not distributed.is_main():
        return None
    before, os.environ["LEEPJAX_CACHE"] = os.environ["LEEPJAX_CACHE"], str(FOLDER / "alone")
    try:
        return fn()
    finally:
        os.environ["LEEPJAX_CACHE"] = before


def compare(joint, fn, **tolerance):
    """The joint result with that of ``fn`` alone; the same in every process."""
    leaves = [np.asarray(x, float) for x in jax.tree.leaves(joint)]
    for other in distributed.gather("compare", lambda: leaves):
        jax.tree.map(np.testing.assert_array_equal, other, leaves)
    expected = alone(fn)
    if expected is not None:
        for got, wanted in zip(leaves, jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(got, np.asarray(wanted, float), **tolerance)


def rows_of(case, mesh):
    """Unequal parts of a case's rows, this process's, as one array over all devices."""
    from leepjax.metrics import sharding

    count, me = jax.process_count(), jax.process_index()
    n = len(case["labels"])
    bounds = np.linspace(0, n, count + 1).astype(int) - 13 * (np.arange(count + 1) % count > 0)
    return sharding.shard_local(
        mesh, **{k: x[bounds[me] : bounds[me + 1]] for k, x in case.items()}
    )


def mesh_of_all():
    return jax.make_mesh((jax.device_count(),), ("data",))


def arrays_of(names=("features", "logits", "labels"), n=403):
    from tests.metrics.support import make_case

    case = make_case(n=n, d=24)
    return {k: case[k] if k == "labels" else case[k].astype("f4") for k in names}


def check_metrics():
    from leepjax.metrics import METRICS, score
    from tests.metrics.support import C

    case, key = arrays_of(), jax.random.key(0)
    shards = rows_of(case, mesh_of_all())
    assert not shards["labels"].is_fully_addressable
    options = {"num_classes": C, "key": key}
    joint = score(**shards, **options)
    assert len(joint) >= 15
    one = alone(lambda: score(**case, **options))
    if one is not None:
        for name, value in joint.items():
            tolerance = 1e-3 if METRICS[name].key else 2e-5  # a mixture's fit iterates
            np.testing.assert_allclose(
                value, one[name], rtol=tolerance, atol=tolerance, err_msg=name
            )
    compare(joint, lambda: joint)


def check_subsets():
    from leepjax.metrics import score_subsets
    from tests.metrics.support import C

    case = arrays_of(("features", "probs", "labels"))
    subsets = np.array([[True] * C, [True, True] + [False] * (C - 2)])
    shards = rows_of(case, mesh_of_all())
    labels = shards.pop("labels")
    compare(
        score_subsets(labels, subsets, num_classes=C, **shards),
        lambda: score_subsets(case.pop("labels"), subsets, num_classes=C, **case),
        rtol=1e-4,
        atol=1e-5,
    )


def check_influence():
    from leepjax.metrics import leep, uncertainty
    from tests.metrics.support import C

    case = arrays_of(("probs", "labels"))

    def error(probs, labels, where=None):
        found = uncertainty.influence(leep, probs, labels, num_classes=C, where=where)
        return found.standard_error

    compare(error(**rows_of(case, mesh_of_all())), lambda: error(**case), rtol=1e-4)


def check_streams():
    """Each process streams its own rows; states are merged in every process, in any order."""
    from leepjax.metrics import moments, score, streaming
    from tests.metrics.support import C

    case = arrays_of(("features", "probs", "labels"), n=400)
    count, me = jax.process_count(), jax.process_index()
    mine = {k: np.array_split(x, count)[me] for k, x in case.items()}
    about = distributed.from_main(
        "about", lambda: moments.about(case["features"][:9]), moments.About(0, 0)
    )
    shapes = {"num_classes": C, "num_source_classes": case["probs"].shape[1]}

    def merged(what, state, **arrays):
        for rows in np.array_split(np.arange(len(mine["labels"])), 2):
            part = {k: x[rows] for k, x in arrays.items()}
            state = streaming.update(state, part.pop("labels"), **part)
        first, *others = distributed.gather(what, lambda: state)
        for other in others:
            first = streaming.merge(first, other)
        return first

    state = merged("first", streaming.init(**shapes, features=about), **mine)
    state = streaming.second_pass(state)
    del mine["features"]
    second = streaming.init(**shapes, conditional=state.conditional)
    got = streaming.finalize(streaming.merge(state, merged("second", second, **mine)))
    names = sorted(got)
    compare(
        {name: got[name] for name in names},
        lambda: score(**case, num_classes=C, metrics=names),
        rtol=1e-4,
        atol=1e-5,
    )


def check_extraction():
    from leepjax.models import extract
    from tests.meta.support import bank, source

    joint = extract(source(), bank(), batch_size=16, devices=jax.devices())
    kept = [*Path(os.environ["LEEPJAX_CACHE"]).glob("outputs/*.safetensors")]
    assert len(kept) == distributed.is_main()  # each process has a cache of its own here
    compare(joint, lambda: extract(source(), bank()), atol=1e-5)
    again = extract(source(), bank(), devices=jax.devices())  # from process 0's cache
    jax.tree.map(np.testing.assert_array_equal, again, joint)


def check_sources():
    """Each process trains its own; process 0 keeps it in a cache that all share, and read."""
    from leepjax.data import load
    from leepjax.models import SourceRecipe, train_source

    os.environ["LEEPJAX_CACHE"] = str(FOLDER / "shared")
    digits, recipe = load("digits"), SourceRecipe(steps=3, batch_size=8)
    trained = train_source("mlp", digits, recipe)
    distributed.check_same("sources", params=trained.params)  # and all have come so far
    kept = [*FOLDER.glob("shared/sources/*/checkpoint-*")]
    assert len(kept) == 1
    again = train_source("mlp", digits, recipe)
    jax.tree.map(np.testing.assert_array_equal, again.params, trained.params)
    assert [*FOLDER.glob("shared/sources/*/checkpoint-*")] == kept


def few_tasks(number=5):
    from leepjax.tasks import sample_tasks
    from tests.meta.support import WAYS, dataset

    return sample_tasks(
        jax.random.key(2), dataset(), num_tasks=number, ways=WAYS, shots=4, test_shots=4
    )


def check_heads():
    from leepjax.tasks import score_tasks
    from leepjax.transfer import retrain_head
    from tests.meta.support import dataset

    tasks = few_tasks()
    rng = np.random.default_rng(0)
    train, test = (rng.normal(size=(len(b.labels), 6)).astype("f4") for b in dataset())

    def both(devices=None):
        heads = retrain_head(train, test, tasks, devices=devices)
        return heads.objective, score_tasks(
            tasks, features=train, metrics=["h_score", "knn"], devices=devices
        )

    compare(both(jax.devices()), both, rtol=1e-4, atol=1e-5)


def check_networks():
    from leepjax.transfer import Recipe, fine_tune, from_scratch
    from tests.meta.support import dataset, source

    # A rate at which the loss falls: one at which it leaps makes rounding large.
    recipe = Recipe(epochs=2, batch_size=4, head="optimum", learning_rate=1e-3)
    journal = FOLDER / "journal.jsonl"

    def tuned(devices=None, journal=None):
        result = fine_tune(
            jax.random.key(3), source(), dataset(), few_tasks(), recipe,
            devices=devices, journal=journal,
        )  # fmt: skip
        return result.train_loss, result.epoch

    joint = tuned(jax.devices(), journal)
    compare(joint, tuned, rtol=1e-3)
    size = journal.stat().st_size
    again = tuned(jax.devices(), journal)  # all of it from the journal
    jax.tree.map(np.testing.assert_array_equal, again, joint)
    assert journal.stat().st_size == size
    fresh = dataclasses.replace(recipe, head="zero", decay_towards="zero", batch_norm="batch")

    def scratch(devices=None):
        return from_scratch(
            jax.random.key(3), source(), dataset(), few_tasks(3), fresh,
            strategy="vmap", devices=devices,
        ).train_loss  # fmt: skip

    compare(scratch(jax.devices()), scratch, rtol=1e-4)


def check_meta():
    from leepjax.meta import EpisodeShape, MetaRecipe, adapt_tasks, make_learner, meta_train
    from leepjax.meta import train as training
    from tests.meta.support import WAYS, bank, dataset, flat, source

    training.CHUNK = 3
    shape = EpisodeShape(ways=WAYS, shots=2, queries=3)
    recipe = MetaRecipe(
        steps=6, tasks=jax.device_count(), episode=shape, learning_rate=3e-3, hard_every=3
    )
    learner = make_learner("mtl", source(), WAYS)
    key, folder = jax.random.key(2), FOLDER / "meta"

    def train(devices=None, checkpoint=None):
        meta, course = meta_train(
            key, learner, bank(), recipe, devices=devices, checkpoint=checkpoint
        )
        return flat(meta), course.loss

    joint = train(jax.devices(), folder)
    compare(joint, train, rtol=1e-3, atol=1e-4)
    again = train(jax.devices(), folder)  # ended: from process 0's checkpoint
    jax.tree.map(np.testing.assert_array_equal, again, joint)
    meta = learner.init(key)

    def adapt(devices=None):
        return adapt_tasks(learner, meta, dataset(), few_tasks(), devices=devices).loss

    compare(adapt(jax.devices()), adapt, rtol=1e-4)


def check_errors():
    from leepjax.meta import EpisodeShape, MetaRecipe, make_learner, meta_train
    from leepjax.metrics import leep, sharding
    from leepjax.tasks import map_tasks
    from tests.meta.support import WAYS, bank, source

    me = jax.process_index()
    refused(
        lambda: map_tasks(None, np.full(3, me), few_tasks(), devices=jax.devices(), desc="task"),
        ValueError,
        r"shared: wanted the same in all \d processes, got another in process 1 than in process 0",
    )
    refused(
        lambda: (
            map_tasks(None, 0, few_tasks(), devices=jax.devices()[: LOCAL_DEVICES + 1], desc="x")
            if jax.process_count() > 2
            else distributed.part_of([])
        ),
        ValueError,
        "devices: wanted",
    )

    def fails():
        if me == 1:
            raise ValueError("labels: wanted this, got that")
        return np.ones(1)

    refused(
        lambda: distributed.gather("share", fails),
        ValueError if me == 1 else RuntimeError,
        "labels: wanted this, got that",
    )
    refused(
        lambda: distributed.gather(f"call of {me}", lambda: np.ones(1)),
        RuntimeError,
        "wanted one call in all processes, but process",
    )
    if me:
        recipe = MetaRecipe(steps=1, tasks=1, episode=EpisodeShape(ways=WAYS, shots=1, queries=1))
        learner, key = make_learner("protonet", source(), WAYS), jax.random.key(0)
        refused(
            lambda: meta_train(key, learner, bank(), recipe, checkpoint=FOLDER / "mine"),
            ValueError,
            f"checkpoint: wanted none in process {me}: process 0 alone writes",
        )
    mesh = mesh_of_all()
    refused(
        lambda: sharding.shard_local(mesh, labels=np.zeros(3, np.int32 if me else np.int64)),
        ValueError,
        "arrays: wanted names, dtypes and shapes the same in all processes; process 1 has others",
    )
    refused(
        lambda: sharding.shard_local(
            jax.make_mesh((1,), ("data",), devices=jax.local_devices()[:1]), labels=np.zeros(3)
        ),
        ValueError,
        "mesh: wanted as many devices of each process",
    )
    case = arrays_of(("probs", "labels"))
    case["labels"][5] = 99
    refused(
        lambda: leep(num_classes=4, **rows_of(case, mesh)),
        ValueError,
        "labels: wanted",
    )


def refused(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


VICTIM = 1  # the process that dies or hangs


def at_second_wave(act):
    """In the victim, act in place of the second wave of networks."""
    from leepjax.transfer import waves

    run, done = waves.Waves.run, []

    def second(self, *args):
        if len(done) == 1 and jax.process_index() == VICTIM:
            act()
        done.append(1)
        return run(self, *args)

    waves.Waves.run = second


def table():
    from leepjax.transfer import Recipe, fine_tune
    from tests.meta.support import dataset, source

    result = fine_tune(
        jax.random.key(3), source(), dataset(), few_tasks(8), Recipe(epochs=2, batch_size=4),
        strategy="loop", devices=jax.devices()[:: LOCAL_DEVICES], journal=FOLDER / "table.jsonl",
    )  # fmt: skip
    np.save(FOLDER / f"table-{jax.process_index()}.npy", result.train_loss)


def fault_none():
    """Four processes, a device each, eight tasks: two waves."""
    table()


def fault_killed():
    at_second_wave(lambda: os.kill(os.getpid(), signal.SIGKILL))
    table()


def fault_stuck():
    at_second_wave(lambda: time.sleep(600))
    table()


def fault_stuck_in_step():
    """Shared arrays: the others wait in a collective."""
    from leepjax.meta import EpisodeShape, MetaRecipe, make_learner, meta_train
    from leepjax.meta import train as training
    from tests.meta.support import WAYS, bank, source

    runner = training._runner

    def stuck(*args):
        run = runner(*args)
        return (lambda *_: time.sleep(600)) if jax.process_index() == VICTIM else run

    training._runner = stuck
    shape = EpisodeShape(ways=WAYS, shots=2, queries=3)
    recipe = MetaRecipe(steps=2, tasks=jax.device_count(), episode=shape, learning_rate=3e-3)
    learner = make_learner("protonet", source(), WAYS)
    meta_train(jax.random.key(2), learner, bank(), recipe, devices=jax.devices())


def fault_late():
    """One is late by more than gloo waits for a first collective."""
    if jax.process_index() == VICTIM:
        time.sleep(40)
    check_influence()


def fault_absent():
    """Never reached: not all processes come."""


FAULTS = {n.removeprefix("fault_"): f for n, f in [*globals().items()] if n.startswith("fault_")}
CHECKS = {n.removeprefix("check_"): f for n, f in [*globals().items()] if n.startswith("check_")}


def main() -> None:
    global FOLDER
    port, count, me, folder, *names = sys.argv[1:]
    FOLDER = Path(folder)
    jax.config.update("jax_num_cpu_devices", LOCAL_DEVICES)
    faulty = bool({*names} & {*FAULTS})
    distributed.initialize(
        f"localhost:{port}",
        int(count),
        int(me),
        connect_timeout=10 if "absent" in names else 120,
        heartbeat_timeout=10 if faulty else 60,
        time_limit=20 if any("stuck" in name for name in names) else 300,
    )
    for name in names:
        os.environ["LEEPJAX_CACHE"] = f"{folder}/cache-{me}"
        (CHECKS | FAULTS)[name]()
        print("passed", name, flush=True)


if __name__ == "__main__":
    main()
