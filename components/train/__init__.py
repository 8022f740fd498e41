"""Train: one policy a seed from a dataset and its behavior models."""
