"""What a score is worth: tasks scored, held against accuracy, with intervals and nulls."""

from leepjax.evaluation.correlate import NULLS as NULLS
from leepjax.evaluation.correlate import Correlation as Correlation
from leepjax.evaluation.correlate import correlate as correlate
from leepjax.evaluation.correlation import kendall as kendall
from leepjax.evaluation.correlation import partial_pearson as partial_pearson
from leepjax.evaluation.correlation import pearson as pearson
from leepjax.evaluation.correlation import spearman as spearman
from leepjax.evaluation.interval import Estimate as Estimate
from leepjax.evaluation.interval import jackknife as jackknife
from leepjax.evaluation.levels import Level as Level
from leepjax.evaluation.levels import in_levels as in_levels
from leepjax.evaluation.score_tasks import score_tasks as score_tasks
