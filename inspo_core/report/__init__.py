"""From evaluations to tables and figures.

``results`` collects, ``comparisons`` compares, ``tables`` and ``figures`` write. All numbers are of the last policy of a run; the best over training is
shown nowhere, since choosing it would need the very rollouts that offline learning does without.
"""

from pathlib import Path

from inspo_core.config import Params
from inspo_core.files import atomic_directory
from inspo_core.fingerprint import fingerprint
from inspo_core.report.comparisons import compare
from inspo_core.report.failures import Failures, read_failures
from inspo_core.report.results import Results, Row, read_results
from inspo_core.report.tables import print_table, write_tables
from inspo_core.report.web import Origins, web_page
from inspo_core.tracking import StageTracker
from inspo_core.tracking.ledger import origins_of

__all__ = ["Failures", "Results", "Row", "print_table", "read_failures", "read_results", "run_report", "write_report"]


def run_report(
    evaluations: Path, trainings: Path, out: Path, params: Params, failures: Failures | None = None
) -> tuple[Results, list[Row]]:
    """The report stage: read, write, record in MLflow, register the best policy of each dataset.

    ``failures``: runs that are reported as failed; all others must be there.

    Raises InspoError: see :func:`read_results`; ``out`` is then as it was.
    """
    results = read_results(evaluations, trainings, params, failures)
    section, inputs = params.report.model_dump(), results.content()
    name = fingerprint("report", section, inputs)
    pipeline = params.model_dump(mode="json")
    with StageTracker("report", params.experiment.name, None, None, None, section, inputs, name, pipeline=pipeline) as tracker:
        trained = [training for cell in results.cells for training in cell.trainings]
        rows = write_report(results, out, origins_of(evaluations.parent / "provenance.json", trained))
        tracker.log_final({f"{row.dataset}/{row.name}/{row.metric}_iqm": row.estimate.iqm for row in rows})
        for name in reversed(results.names):  # MLflow shows the latest first
            cell = max((cell for cell in results.cells if cell.name == name), key=lambda cell: len(cell.seeds))
            metrics = {f"{row.metric}/{row.dataset}": row.estimate.iqm for row in rows if row.name == name}
            if results.failures:
                metrics["failed_runs"] = float(sum(failed == name for _, failed, _ in results.failures))
            tracker.log_algorithm(cell.algorithm, cell.variant, {"train": cell.config}, metrics)
        tracker.log_artifacts(sorted(out.iterdir()))
        tracker.register_models(results.best_policies())
    return results, rows


def write_report(results: Results, out: Path, origins: Origins = ()) -> list[Row]:
    """Write every table and figure into ``out``, as a whole: an earlier report stays until the new one is complete.

    ``origins``: where the trainings come from, as far as it was noted (:func:`inspo_core.tracking.ledger.origins_of`).

    Returns the summary, one row a dataset, algorithm and metric.
    """
    from inspo_core.report.figures import write_figures  # matplotlib takes a second to import

    rows, comparisons = results.summary(), compare(results)
    with atomic_directory(out) as aside:
        write_tables(results, rows, comparisons, aside)
        write_figures(results, comparisons, aside / "figures")
        (aside / "report.html").write_text(web_page(results, rows, comparisons, aside / "figures", origins))
    return rows
