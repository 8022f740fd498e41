"""InSPO (In-Sample Sequential Policy Optimization, arXiv 2412.07639) and the stages of its experiment pipeline."""

__version__ = "0.1.0"
