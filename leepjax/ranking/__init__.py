"""Source models ranked for a target: arrays, files or networks in, a ``Ranking`` out."""

from leepjax.ranking._rank import rank as rank
from leepjax.ranking.best import Paired as Paired
from leepjax.ranking.result import Failure as Failure
from leepjax.ranking.result import Ranking as Ranking
