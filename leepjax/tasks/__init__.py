"""Batches of target tasks over the banks of one data set, and their scores."""

from leepjax.tasks.map import map_tasks as map_tasks
from leepjax.tasks.scores import score_tasks as score_tasks
from leepjax.tasks.tasks import Split as Split
from leepjax.tasks.tasks import Tasks as Tasks
from leepjax.tasks.tasks import check_rows as check_rows
from leepjax.tasks.tasks import only_used as only_used
from leepjax.tasks.tasks import sample_tasks as sample_tasks
