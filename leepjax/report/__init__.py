"""What a study leaves behind: a run directory, tables and figures."""

from leepjax.report.figures import scatter as scatter
from leepjax.report.levels import draw_levels as draw_levels
from leepjax.report.levels import print_levels as print_levels
from leepjax.report.levels import read_levels as read_levels
from leepjax.report.levels import write_levels as write_levels
from leepjax.report.page import write_page as write_page
from leepjax.report.page import write_study_page as write_study_page
from leepjax.report.run import Run as Run
from leepjax.report.run import open_run as open_run
from leepjax.report.run import read_table as read_table
from leepjax.report.study import draw_study as draw_study
from leepjax.report.study import read_correlations as read_correlations
from leepjax.report.study import show_study as show_study
from leepjax.report.study import write_correlations as write_correlations
from leepjax.report.study import write_study as write_study
from leepjax.report.tables import Section as Section
from leepjax.report.tables import Sheet as Sheet
from leepjax.report.tables import format_estimate as format_estimate
from leepjax.report.tables import format_range as format_range
from leepjax.report.tables import print_correlations as print_correlations
from leepjax.report.tables import print_section as print_section
from leepjax.report.tables import verdict as verdict
