"""Transferability scores: pure functions over arrays, larger is better. Imports jax alone."""

from leepjax.metrics._h_score import h_score as h_score
from leepjax.metrics._knn import knn as knn
from leepjax.metrics._leep import ExpectedEmpiricalPredictor as ExpectedEmpiricalPredictor
from leepjax.metrics._leep import leep as leep
from leepjax.metrics._leep import leep_gain as leep_gain
from leepjax.metrics._nce import nce as nce
from leepjax.metrics._neg_label_entropy import neg_label_entropy as neg_label_entropy
from leepjax.metrics._registry import METRICS as METRICS
from leepjax.metrics._registry import Metric as Metric
from leepjax.metrics._registry import score as score
