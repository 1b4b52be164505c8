"""Transferability scores: pure functions over arrays, larger is better. Imports jax alone."""

from leepjax.metrics import moments as moments
from leepjax.metrics import sharding as sharding
from leepjax.metrics import streaming as streaming
from leepjax.metrics import uncertainty as uncertainty
from leepjax.metrics._cross_fitted_leep import cross_fitted_leep as cross_fitted_leep
from leepjax.metrics._energy import energy as energy
from leepjax.metrics._gbc import gbc as gbc
from leepjax.metrics._h_score import h_score as h_score
from leepjax.metrics._h_score import h_score_from_moments as h_score_from_moments
from leepjax.metrics._knn import knn as knn
from leepjax.metrics._lda_score import lda_score as lda_score
from leepjax.metrics._leep import ExpectedEmpiricalPredictor as ExpectedEmpiricalPredictor
from leepjax.metrics._leep import leep as leep
from leepjax.metrics._leep import leep_gain as leep_gain
from leepjax.metrics._leep_calibrated import leep_calibrated as leep_calibrated
from leepjax.metrics._leep_calibrated import leep_temperature as leep_temperature
from leepjax.metrics._lfc import lfc as lfc
from leepjax.metrics._lfc import lfc_from_moments as lfc_from_moments
from leepjax.metrics._linear_probe import linear_probe as linear_probe
from leepjax.metrics._logme import logme as logme
from leepjax.metrics._logme import logme_from_moments as logme_from_moments
from leepjax.metrics._logme import logme_regression as logme_regression
from leepjax.metrics._logme import logme_regression_from_moments as logme_regression_from_moments
from leepjax.metrics._nce import nce as nce
from leepjax.metrics._neg_label_entropy import neg_label_entropy as neg_label_entropy
from leepjax.metrics._nleep import nleep as nleep
from leepjax.metrics._pactran import pactran_dirichlet as pactran_dirichlet
from leepjax.metrics._pactran import pactran_gamma as pactran_gamma
from leepjax.metrics._pactran_gaussian import pactran_gaussian as pactran_gaussian
from leepjax.metrics._parc import parc as parc
from leepjax.metrics._predictive_r2 import predictive_r2 as predictive_r2
from leepjax.metrics._registry import METRICS as METRICS
from leepjax.metrics._registry import Metric as Metric
from leepjax.metrics._registry import metrics_of as metrics_of
from leepjax.metrics._registry import score as score
from leepjax.metrics._regularized_h_score import regularized_h_score as regularized_h_score
from leepjax.metrics._regularized_h_score import (
    regularized_h_score_from_moments as regularized_h_score_from_moments,
)
from leepjax.metrics._sfda import sfda as sfda
from leepjax.metrics._subsets import score_subsets as score_subsets
from leepjax.metrics._transrate import transrate as transrate
from leepjax.metrics._transrate import transrate_from_moments as transrate_from_moments
