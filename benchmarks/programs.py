"""Programs of leepjax as functions of shapes: compiling them needs neither data nor a device."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from benchmarks.score_calls import MOMENTS
from leepjax.data import Pixels
from leepjax.fit import init
from leepjax.meta import ALGORITHMS, Episodes, EpisodeShape, MetaRecipe, make_learner
from leepjax.meta.train import init_state, meta_update
from leepjax.metrics import METRICS, platform, score, score_subsets, streaming, uncertainty
from leepjax.metrics._evaluate import _run
from leepjax.metrics._kernel import as_kernel
from leepjax.metrics._registry import _defaults
from leepjax.models import Conv4, Preprocess, Source, SourceRecipe, make_source
from leepjax.models.extraction import _forward
from leepjax.models.networks import make_network
from leepjax.models.train import adamw, make_step
from leepjax.transfer import Recipe
from leepjax.transfer._softmax_regression import Heads, softmax_regression
from leepjax.transfer.recipe import Rates
from leepjax.transfer.training import Batch, JobArrays, make_program

LANES, STEPS, BATCH, TASKS = 32, 10, 32, 8


class Program(NamedTuple):
    """A program, not yet compiled.

    Attributes:
      fn: a function, jitted or not.
      arguments: pytrees of shapes.
      rows: whether the first axis of all arguments may be spread over devices.
    """

    fn: Callable[..., Any]
    arguments: tuple[Any, ...]
    rows: bool = False

    @property
    def jitted(self) -> Any:
        """The function with ``trace``; of one that is jitted its own options stay."""
        return self.fn if hasattr(self.fn, "trace") else jax.jit(self.fn)


class Sizes(NamedTuple):
    """Of the scores' arrays: samples, source classes, dimensions, target classes."""

    n: int
    s: int
    d: int
    c: int


def programs(sizes: Sizes, mesh: Mesh) -> dict[str, Callable[[], Program]]:
    """All programs by name; each is built when it is asked for, for the devices of ``mesh``."""
    metric = partial(_metric if mesh.size == 1 else _spread_metric, sizes=sizes, mesh=mesh)
    found: dict[str, Callable[[], Program]] = {name: partial(metric, name) for name in METRICS}
    found["score"] = partial(_score, sizes)
    found["score_subsets"] = partial(_score_subsets, sizes)
    found |= {f"stream {x}": partial(_stream, x, sizes) for x in ("features", "probs")}
    found |= {f"influence {x}": partial(_influence, x, sizes) for x in ("leep", "h_score")}
    found["heads"] = _heads
    found["source step"] = _source_step
    found |= {f"fine_tune {x}": partial(_fine_tune, x == "vmap", mesh) for x in ("loop", "vmap")}
    found["extract"] = _extract
    found |= {f"meta {name}": partial(_meta, name) for name in ALGORITHMS}
    return found


def _shape(shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


def _arrays(sizes: Sizes) -> Mapping[str, jax.ShapeDtypeStruct]:
    n, s, d, _ = sizes
    integers = {name: _shape((n,), jnp.int32) for name in ("labels", "source_labels")}
    floats = {"probs": (n, s), "logits": (n, s), "features": (n, d), "targets": (n, 3)}
    return {**integers, **{name: _shape(shape) for name, shape in floats.items()}}


def _metric(name: str, sizes: Sizes, mesh: Mesh) -> Program:
    metric, arrays = METRICS[name], _arrays(sizes)
    options = {"num_classes": sizes.c} if "labels" in metric.inputs else {}
    if "source_labels" in metric.inputs:
        options["num_source_classes"] = sizes.s

    def fn(*inputs):
        key = (jax.random.key(0),) if metric.key else ()
        return metric.fn(*key, *inputs, **options)

    return Program(fn, tuple(arrays[x] for x in metric.inputs), rows=True)


def _spread_metric(name: str, sizes: Sizes, mesh: Mesh) -> Program:
    """As of arrays that lie on many devices, which tell a metric so; shapes cannot."""
    metric, options = METRICS[name], _defaults(METRICS[name])
    counts = {"num_classes": sizes.c} if "labels" in metric.inputs else {}
    if "source_labels" in metric.inputs:
        counts["num_source_classes"] = sizes.s
    kernels = ((name, as_kernel(metric.kernel), tuple(sorted(options.items()))),)
    layout = NamedSharding(mesh, P(mesh.axis_names[0]))

    def fn(*inputs):
        arrays = dict(zip(metric.inputs, inputs, strict=True))
        given = {"key": jax.random.key(0)} if metric.key else {}
        return inspect.unwrap(_run)(kernels, arrays, given, tuple(sorted(counts.items())), layout)

    return Program(fn, tuple(_arrays(sizes)[x] for x in metric.inputs), rows=True)


def _score(sizes: Sizes) -> Program:
    def fn(features, labels):
        return score(labels, num_classes=sizes.c, features=features, metrics=MOMENTS)

    return Program(fn, tuple(_arrays(sizes)[x] for x in ("features", "labels")), rows=True)


def _score_subsets(sizes: Sizes) -> Program:
    def fn(features, probs, labels):
        subsets = jnp.asarray(np.random.default_rng(0).random((200, 10)) < 0.5)
        shared = {"num_classes": 10, "features": features, "probs": probs}
        return score_subsets(labels, subsets, **shared)

    n = 60_000
    arguments = _shape((n, 64)), _shape((n, 10)), _shape((n,), jnp.int32)
    return Program(fn, arguments)


def _stream(what: str, sizes: Sizes) -> Program:
    arrays = _arrays(sizes)
    rows = {"features": arrays["features"]} if what == "features" else {"probs": arrays["probs"]}
    begin: dict[str, Any] = {"num_classes": sizes.c}
    if what == "probs":
        begin["num_source_classes"] = sizes.s
    some = np.zeros((64, sizes.d), np.float32) if what == "features" else None
    state = jax.eval_shape(lambda: streaming.init(**begin, features=some))

    def fn(rows, labels, state):
        return streaming.update(state, labels, **rows)

    return Program(fn, (rows, arrays["labels"], state))


def _influence(name: str, sizes: Sizes) -> Program:
    inputs = tuple(_arrays(sizes)[x] for x in METRICS[name].inputs)
    fn = partial(uncertainty.influence, METRICS[name].fn, num_classes=sizes.c)
    return Program(lambda *inputs: fn(*inputs, weights=jnp.ones(sizes.n)), inputs, rows=True)


def _heads() -> Program:
    t, n, d = 200, 250, 64
    arguments = _shape((t, n, d)), _shape((t, n), jnp.int32), _shape((t, n), bool)
    return Program(partial(softmax_regression, num_classes=5), arguments)


def _resnet20() -> Source:
    network = make_network("resnet20", 10, size=32, channels=3, rngs=nnx.Rngs(0))
    return make_source(network, Preprocess(32, 3, (0.5,) * 3, (0.25,) * 3), tuple("abcdefghij"))


def _shapes(tree: Any) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x)), tree)


def _source_step() -> Program:
    source, optimiser = _resnet20(), adamw(SourceRecipe())
    state = jax.eval_shape(lambda p, r: init(p, r, optimiser), source.params, source.rest)
    arguments = state, _shape((128,), jnp.int32), _bank(50_000), _shape((50_000,), jnp.int32)
    return Program(make_step(source.graphdef, source.preprocess, optimiser), arguments)


def _bank(n: int) -> Pixels:
    rows: Any = _shape((n, 32 * 32 * 3), jnp.uint8)
    return Pixels(rows, (32, 32, 3))


def _fine_tune(vmap: bool, mesh: Mesh) -> Program:
    source, recipe = _resnet20(), Recipe(epochs=1, batch_size=BATCH).static
    program = make_program(
        source.graphdef, source.preprocess, recipe, False, mesh, vmap, platform.target()
    )
    lanes, steps = (LANES, STEPS) if vmap else (1, 1)
    d = source.params["head"]["kernel"].shape[0]
    jobs = JobArrays(
        jax.eval_shape(lambda: jax.random.split(jax.random.key(0), lanes)),
        _shape((lanes,), jnp.int32),
        _shape((lanes,), jnp.int32),
        Rates(*(_shape((lanes,)) for _ in Rates._fields)),
        Heads(_shape((lanes, d, 5)), _shape((lanes, 5))),
    )
    params, rest = _shapes((source.params, source.rest))
    state = jax.eval_shape(program.init, params, rest, jobs)
    index = _shape((lanes, steps, BATCH), jnp.int32)
    batches = Batch(index, index, _shape((lanes, steps), jnp.int32), _shape((lanes, steps), bool))
    return Program(program.train, (_bank(60_000), params, jobs, state, batches))


def _extract() -> Program:
    source = _resnet20()
    fn = partial(_forward, source.graphdef, source.preprocess)
    params, rest = _shapes((source.params, source.rest))
    return Program(fn, (params, rest, _shape((512, 32, 32, 3), jnp.uint8)))


def _meta(name: str, tasks: int = TASKS, mesh: Mesh | None = None) -> Program:
    ways, queries = 5, 15
    network = Conv4(ways, width=32, rngs=nnx.Rngs(0))
    source = make_source(network, Preprocess(28, 1, (0.5,), (0.5,)), tuple("abcde"))
    learner, fields = make_learner(name, source, ways), dict(ALGORITHMS[name].recipe)
    recipe = MetaRecipe(tasks=tasks, episode=EpisodeShape(ways, 1, queries), **fields)
    meta = learner.init(jax.random.key(0))
    state = jax.eval_shape(lambda params: init_state(params, recipe, ways), meta.params)

    def images(each: int) -> jax.ShapeDtypeStruct:
        return _shape((tasks, ways * each, 28, 28, 1), jnp.uint8)

    def labels(each: int) -> jax.ShapeDtypeStruct:
        return _shape((tasks, ways * each), jnp.int32)

    classes = _shape((tasks, ways), jnp.int32)
    batch = Episodes(images(1), labels(1), images(queries), labels(queries), classes)
    step = partial(meta_update, learner, recipe, mesh=mesh)
    return Program(step, (state, _shapes(meta.fixed), batch))


def placed(program: Program, mesh: Mesh) -> tuple[Any, ...]:
    """The arguments on the devices: rows spread over all, or everything everywhere."""
    spec = P(mesh.axis_names[0]) if program.rows and mesh.size > 1 else P()
    sharding = NamedSharding(mesh, spec)
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), program.arguments
    )
