"""Transfer learners: what the scores are meant to predict."""

from leepjax._extras import require

require("networks")

from leepjax.transfer._fine_tune import NetworkResult as NetworkResult
from leepjax.transfer._fine_tune import check_recipes as check_recipes
from leepjax.transfer._fine_tune import fine_tune as fine_tune
from leepjax.transfer._fine_tune import from_scratch as from_scratch
from leepjax.transfer._retrain_head import HeadResult as HeadResult
from leepjax.transfer._retrain_head import fit_heads as fit_heads
from leepjax.transfer._retrain_head import retrain_head as retrain_head
from leepjax.transfer._softmax_regression import Certificate as Certificate
from leepjax.transfer._softmax_regression import Heads as Heads
from leepjax.transfer._softmax_regression import certify as certify
from leepjax.transfer._softmax_regression import softmax_regression as softmax_regression
from leepjax.transfer.joint import accuracy_by_task as accuracy_by_task
from leepjax.transfer.joint import compute_outputs as compute_outputs
from leepjax.transfer.joint import joint_loss as joint_loss
from leepjax.transfer.joint import train_jointly as train_jointly
from leepjax.transfer.recipe import RECIPES as RECIPES
from leepjax.transfer.recipe import Rates as Rates
from leepjax.transfer.recipe import Recipe as Recipe
from leepjax.transfer.recipe import sweep as sweep
