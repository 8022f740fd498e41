"""The stages as commands: one folder a stage, each with its command line and its Kubeflow definition."""
