"""``python -m components.ingest``: raw files of a dataset to validated episodes in the native format."""

from pathlib import Path

from components.cli import params_of, run, stage_parser
from inspo_core.datasets.ingest import run_ingest


def main() -> None:
    parser = stage_parser("ingest", "Turn the raw files of a dataset into validated episodes in the native format, with a card.")
    parser.add_argument("--dataset", required=True, help="name of the dataset, a key of ingest.sources in the parameters")
    parser.add_argument("--raw", type=Path, required=True, help="folder with the raw files")
    parser.add_argument("--out", type=Path, required=True, help="folder for the dataset; replaced as a whole")
    arguments = parser.parse_args()
    dataset = run_ingest(arguments.dataset, params_of(arguments), arguments.raw, arguments.out)
    print(f"{dataset.name}: {dataset.n_episodes} episodes, {dataset.n_transitions} transitions; card: {arguments.out / 'card' / 'card.md'}")


if __name__ == "__main__":
    run(main)
