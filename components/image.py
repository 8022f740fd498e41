"""The container image of every stage, named here and nowhere else."""

import os

from inspo_core import __version__

IMAGE = os.environ.get("INSPO_IMAGE", f"inspo:{__version__}")
"""``INSPO_IMAGE`` names the image in a registry, best by digest: Kubeflow's cache tells images apart by this string."""
