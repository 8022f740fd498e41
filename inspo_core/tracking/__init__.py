"""Runs in MLflow. Only this package imports mlflow, and only when something is delivered; training writes files alone.

``tracker`` follows a stage and writes ``journal``s into ``outbox/``; ``delivery`` sends them, through ``replay`` (one journal's
operations), ``runs`` (finding, making and ending runs), ``model`` and ``registry``, to the ``store``.
"""

from inspo_core.tracking.ledger import record_runs
from inspo_core.tracking.registry import ModelChoice
from inspo_core.tracking.tracker import StageTracker

__all__ = ["ModelChoice", "StageTracker", "record_runs"]
