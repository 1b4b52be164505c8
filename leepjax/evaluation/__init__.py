"""Statistics of a table: correlations, means, differences, intervals; NumPy and SciPy alone."""

from leepjax.evaluation.correlation import kendall as kendall
from leepjax.evaluation.correlation import mean_over_groups as mean_over_groups
from leepjax.evaluation.correlation import partial_pearson as partial_pearson
from leepjax.evaluation.correlation import pearson as pearson
from leepjax.evaluation.correlation import spearman as spearman
from leepjax.evaluation.correlation import weighted_kendall as weighted_kendall
from leepjax.evaluation.differences import Difference as Difference
from leepjax.evaluation.differences import clusters_needed as clusters_needed
from leepjax.evaluation.differences import difference as difference
from leepjax.evaluation.differences import holm as holm
from leepjax.evaluation.differences import williams as williams
from leepjax.evaluation.interval import Estimate as Estimate
from leepjax.evaluation.interval import cluster_membership as cluster_membership
from leepjax.evaluation.interval import jackknife as jackknife
from leepjax.evaluation.means import Level as Level
from leepjax.evaluation.means import in_levels as in_levels
from leepjax.evaluation.means import mean as mean
from leepjax.evaluation.reliability import noise_ceiling as noise_ceiling
from leepjax.evaluation.reliability import stability as stability
from leepjax.evaluation.reliability import static_ranking as static_ranking
from leepjax.evaluation.study import NULLS as NULLS
from leepjax.evaluation.study import Correlation as Correlation
from leepjax.evaluation.study import correlate as correlate
from leepjax.evaluation.study import task_membership as task_membership
