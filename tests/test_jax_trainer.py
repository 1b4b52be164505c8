"""JAX's runtime set up by Ray's JaxTrainer: two workers, whose scores are those of one process."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

if importlib.util.find_spec("ray") is None:
    pytest.skip("Ray is not installed: leepjax[ray]", allow_module_level=True)

N, C, D = 64, 3, 4


def arrays():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, C, N).astype("i4")
    features = (rng.normal(size=(N, D)) + 2 * np.eye(C, D)[labels]).astype("f4")
    return labels, features


def scores(labels, features):
    from leepjax.metrics import score

    names = ("leep", "nce", "h_score", "logme", "lfc")
    found = score(labels, features=features, logits=features, num_classes=C, metrics=names)
    return {name: float(x) for name, x in found.items()}


def trained(devices):
    """Two steps of meta-training: the learner's parameters, as one number for each array."""
    import jax

    import leepjax
    from leepjax.meta import EpisodeShape, MetaRecipe, make_learner, meta_train
    from leepjax.models.train import untrained

    bank = leepjax.load("digits").train
    learner = make_learner("anil", untrained(jax.random.key(0), "mlp", bank), 3)
    recipe = MetaRecipe(episode=EpisodeShape(3, 2, 4), shots=(2,), steps=2, tasks=2)
    meta, _ = meta_train(jax.random.key(1), learner, bank, recipe, devices=devices)
    return [float(np.abs(np.asarray(x)).mean()) for x in jax.tree.leaves(meta.params)]


def on_a_worker(config):
    """Each of two processes gives its half of the rows; the first writes what came of it."""
    import jax
    from jax.sharding import NamedSharding
    from jax.sharding import PartitionSpec as P

    assert (jax.process_count(), jax.device_count()) == (2, 2)
    mesh = jax.make_mesh((2,), ("data",))
    half = slice(jax.process_index() * N // 2, (jax.process_index() + 1) * N // 2)
    over = NamedSharding(mesh, P("data"))
    parts = (jax.make_array_from_process_local_data(over, x[half]) for x in arrays())
    found = {"scores": scores(*parts), "meta": trained(jax.devices())}
    if jax.process_index() == 0:
        Path(config["path"]).write_text(json.dumps(found))


@pytest.mark.slow
def test_two_workers_are_one_process(monkeypatch, tmp_path):
    import jax
    import ray

    monkeypatch.setenv("RAY_TRAIN_V2_ENABLED", "1")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    from ray.train import RunConfig, ScalingConfig
    from ray.train.v2.jax import JaxTrainer

    # GPUs are declared, or each worker is alone; on the CPU they are one device a process.
    ray.init("local", num_cpus=3, num_gpus=2, include_dashboard=False)
    try:
        trainer = JaxTrainer(
            on_a_worker,
            train_loop_config={"path": str(tmp_path / "found.json")},
            scaling_config=ScalingConfig(
                num_workers=2, use_gpu=True, resources_per_worker={"CPU": 1, "GPU": 1}
            ),
            run_config=RunConfig(name="two", storage_path=str(tmp_path)),
        )
        trainer.fit()
    finally:
        ray.shutdown()
    found = json.loads((tmp_path / "found.json").read_text())
    for name, value in scores(*arrays()).items():
        assert found["scores"][name] == pytest.approx(value, rel=1e-4, abs=1e-5), name
    np.testing.assert_allclose(found["meta"], trained(jax.devices()[:1]), rtol=1e-4)
