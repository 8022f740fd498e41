"""From evaluations to tables and figures.

``results`` collects, ``tables`` and ``figures`` write. All numbers are of the last policy of a run; the best over training is
shown nowhere, since choosing it would need the very rollouts that offline learning does without.
"""

from pathlib import Path

from inspo_core.files import atomic_directory
from inspo_core.report.results import Results, Row, read_results
from inspo_core.report.tables import print_table, write_tables

__all__ = ["Results", "Row", "print_table", "read_results", "write_report"]


def write_report(results: Results, out: Path) -> list[Row]:
    """Write every table and figure into ``out``, as a whole: an earlier report stays until the new one is complete.

    Returns the summary, one row a dataset, algorithm and metric.
    """
    from inspo_core.report.figures import write_figures  # matplotlib takes a second to import

    rows = results.summary()
    with atomic_directory(out) as aside:
        write_tables(results, rows, aside)
        write_figures(results, aside / "figures")
    return rows
