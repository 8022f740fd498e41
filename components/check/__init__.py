"""Check: what a pod of a run sees of image, device, store and MLflow."""
