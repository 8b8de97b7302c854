"""One self-contained HTML page about a run: `python -m visualize.report output/RUN`.

Whatever a run folder holds is read as data that anybody may have written: a missing or damaged
file makes the page shorter and adds a sentence, and every text is escaped.
"""

from visualize.report.page import write_report
from visualize.report.record import write_record

__all__ = ["write_record", "write_report"]
