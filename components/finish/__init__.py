"""Finish: the pipeline's run in MLflow ends with the state that the pipeline ended in."""
