"""One file a stage: what makes a run of it the same run, the work, and its record. ``python -m components.<stage>`` calls it."""
