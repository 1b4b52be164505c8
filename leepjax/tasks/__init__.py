"""Batches of target tasks over the banks of one data set, and their scores."""

from leepjax.tasks.map import Strategy as Strategy
from leepjax.tasks.map import check_chunk as check_chunk
from leepjax.tasks.map import map_tasks as map_tasks
from leepjax.tasks.map import task_mesh as task_mesh
from leepjax.tasks.map import use_vmap as use_vmap
from leepjax.tasks.scores import score_tasks as score_tasks
from leepjax.tasks.tasks import Split as Split
from leepjax.tasks.tasks import Tasks as Tasks
from leepjax.tasks.tasks import check_rows as check_rows
from leepjax.tasks.tasks import only_used as only_used
from leepjax.tasks.tasks import sample_tasks as sample_tasks
