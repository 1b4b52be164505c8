"""What a study leaves behind: a run directory, tables and figures."""

from leepjax.report.figures import scatter as scatter
from leepjax.report.levels import draw_levels as draw_levels
from leepjax.report.levels import print_levels as print_levels
from leepjax.report.levels import read_levels as read_levels
from leepjax.report.levels import write_levels as write_levels
from leepjax.report.meta import HEAD as HEAD
from leepjax.report.meta import LEVELS as LEVELS
from leepjax.report.meta import accuracy_levels as accuracy_levels
from leepjax.report.meta import draw_accuracy_levels as draw_accuracy_levels
from leepjax.report.meta import level_rows as level_rows
from leepjax.report.meta import print_gains as print_gains
from leepjax.report.meta import print_side_by_side as print_side_by_side
from leepjax.report.meta import write_gains as write_gains
from leepjax.report.run import Run as Run
from leepjax.report.run import open_run as open_run
from leepjax.report.run import read_table as read_table
from leepjax.report.study import draw_study as draw_study
from leepjax.report.study import read_correlations as read_correlations
from leepjax.report.study import show_study as show_study
from leepjax.report.study import write_correlations as write_correlations
from leepjax.report.study import write_study as write_study
from leepjax.report.tables import format_estimate as format_estimate
from leepjax.report.tables import print_correlations as print_correlations
from leepjax.report.tables import verdict as verdict
