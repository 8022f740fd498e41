"""InSPO: the sweep, its critics, and its questions to the behavior models."""
