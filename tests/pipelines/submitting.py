"""What the tests of the submit command say, and how it refuses."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "inspo:0.1.0"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
DATA = ["--data-repo", "https://git.example/data", "--data-rev", COMMIT]
EXPERIMENT = ["experiment", *DATA, "--dataset", "xor_c", "--algorithm", "inspo", "--seeds", "0,1"]
SMALL = '{"experiment.datasets": ["xor_c", "xor_b"], "experiment.algorithms": ["inspo", "inspo_product"]}'
BENCHMARK = ["benchmark", *DATA, "--set", SMALL]


def refused(code: int, err: str, *words: str) -> None:
    """Exit status 2 and one sentence with all ``words``."""
    assert code == 2 and err.startswith("error: ") and err.count("\n") == 1, err
    assert not [word for word in words if word not in err], err
