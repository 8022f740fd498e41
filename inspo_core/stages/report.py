"""The stage ``report``: tables and figures over all evaluations of an experiment, and the best policy of each dataset."""

from collections.abc import Mapping
from pathlib import Path

from inspo_core.config.sections import Params, ReportConfig
from inspo_core.files import atomic_directory, check_replaceable
from inspo_core.identity import Identity, check_planned, code_of
from inspo_core.provenance import origins_of
from inspo_core.report.comparisons import compare
from inspo_core.report.failures import Failures
from inspo_core.report.figure_table import FIGURES
from inspo_core.report.results import Results, Row, read_results
from inspo_core.report.tables import write_tables
from inspo_core.report.web import Origins, templates_hash, web_page
from inspo_core.tracking.description import StageRun
from inspo_core.tracking.tracker import StageTracker


def identity(config: ReportConfig, inputs: Mapping[str, str]) -> Identity:
    """What a report is. ``inputs``: hashes of what it reads."""
    figures = [FIGURES.entry(name, "parameter report.figures") for name in config.figures]
    return Identity("report", config.model_dump(), {**inputs, "templates": templates_hash()}, code_of("report", *figures))


def report_stage(
    evaluations: Path, trainings: Path, out: Path, params: Params, failures: Failures | None = None, planned: str = ""
) -> tuple[Results, list[Row]]:
    """Read what the stages evaluate and train left, write ``out``, record it in MLflow, register the best policy of each dataset.

    ``failures``: runs that are reported as failed; all others must be there. ``planned``: the key of the task, whose code must be the
    one here.

    Raises InspoError: see :func:`read_results`, or ``out`` holds something else than a report; it is then as it was.
    """
    check_replaceable(out, "table.md")
    results = read_results(evaluations, trainings, params, failures)
    made = identity(params.report, results.content())
    check_planned(planned, made.code)
    described = StageRun(
        stage="report",
        experiment=params.experiment.name,
        params=made.section,
        inputs=made.inputs,
        fingerprint=made.fingerprint,
        pipeline=params.model_dump(mode="json"),
    )
    with StageTracker(described) as tracker:
        trained = [training for cell in results.cells for training in cell.trainings]
        rows = write_report(results, out, params.report.figures, origins_of(evaluations.parent / "provenance.json", trained))
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


def write_report(results: Results, out: Path, figures: list[str], origins: Origins = ()) -> list[Row]:
    """Write every table and the ``figures`` of those names into ``out``, as a whole: an earlier report stays until the new one is complete.

    ``origins``: where the trainings come from, as far as it was noted (:func:`inspo_core.provenance.origins_of`).

    Returns the summary, one row a dataset, algorithm and metric.
    """
    from inspo_core.report.figures import write_figures  # matplotlib takes a second to import

    rows = results.summary()
    comparisons = compare(results, rows)
    with atomic_directory(out) as aside:
        write_tables(results, rows, comparisons, aside)
        write_figures(results, comparisons, figures, aside / "figures")
        (aside / "report.html").write_text(web_page(results, rows, comparisons, aside / "figures", origins), encoding="utf-8")
    return rows
