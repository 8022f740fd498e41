"""Report: tables and figures over all evaluations."""
