"""The stages put together: an experiment on this machine, and as a Kubeflow pipeline."""
