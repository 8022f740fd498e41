"""The side of MLflow: only this package imports it, and only when something is delivered."""
