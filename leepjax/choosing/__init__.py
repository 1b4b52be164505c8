"""Decisions by scores: a source within a budget of fine-tunes, and what choosing by them costs."""

from leepjax.choosing.halving import Choice as Choice
from leepjax.choosing.halving import successive_halving as successive_halving
from leepjax.choosing.regret import best_of_top_k as best_of_top_k
from leepjax.choosing.regret import expected_recall as expected_recall
from leepjax.choosing.regret import expected_regret as expected_regret
from leepjax.choosing.regret import pairwise_accuracy as pairwise_accuracy
from leepjax.choosing.regret import recall_at_k as recall_at_k
from leepjax.choosing.regret import regret_at_k as regret_at_k
from leepjax.choosing.regret import rel_at_k as rel_at_k
