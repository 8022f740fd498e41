"""The stages as Kubeflow pipelines."""
