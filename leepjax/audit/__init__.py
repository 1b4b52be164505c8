"""Published tables of transferability scores, recomputed: one table in, several tables out."""

from leepjax.audit.pool import Pool as Pool
from leepjax.audit.pool import read_pool as read_pool
from leepjax.audit.read import read_csv as read_csv
from leepjax.audit.rows import recompute as recompute
from leepjax.audit.table import TextTable as TextTable
