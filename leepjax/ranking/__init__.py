"""Source models ranked by their scores: arrays, files or networks in, a ``Ranking`` out."""

from leepjax.ranking._rank import rank as rank
from leepjax.ranking.result import Failure as Failure
from leepjax.ranking.result import Ranking as Ranking
from leepjax.ranking.top_k import Paired as Paired
