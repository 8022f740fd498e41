"""``results.json``: all that a report is of, for what is made from it later."""

import json
from pathlib import Path

import numpy as np

from inspo_core.errors import InspoError
from inspo_core.files import read_json
from inspo_core.report.results import Cell, Results


def write_results(results: Results, path: Path) -> None:
    cells = [
        {
            **vars(cell),
            "values": {metric: values.tolist() for metric, values in cell.values.items()},
            "curves": [sorted(curve.items()) for curve in cell.curves],
        }
        for cell in results.cells
    ]
    text = json.dumps({**vars(results), "cells": cells, "failures": results.ordered_failures()}, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def load_results(path: Path) -> Results:
    """The results as :func:`write_results` got them. Raises InspoError: no such file, or another one."""
    found = read_json(path)
    try:
        cells = [
            Cell(
                **{
                    **cell,
                    "values": {metric: np.array(values, dtype=np.float64) for metric, values in cell["values"].items()},
                    "curves": [dict(curve) for curve in cell["curves"]],
                }
            )
            for cell in found["cells"]
        ]
        failures = {(dataset, name, seed): reason for dataset, name, seed, reason in found["failures"]}
        return Results(**{**found, "cells": cells, "failures": failures})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InspoError(f"{path} does not hold the results of a report ({error!r}); run the report stage again") from error
