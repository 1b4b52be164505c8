"""Transfer learners: what the scores are meant to predict."""

from leepjax.transfer.retrain_head import TransferResult as TransferResult
from leepjax.transfer.retrain_head import retrain_head as retrain_head
from leepjax.transfer.softmax_regression import Certificate as Certificate
from leepjax.transfer.softmax_regression import Heads as Heads
from leepjax.transfer.softmax_regression import certify as certify
from leepjax.transfer.softmax_regression import softmax_regression as softmax_regression
