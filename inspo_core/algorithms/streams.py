"""The random streams of a training run."""

import torch

from inspo_core.rng import torch_stream


class Streams(dict[str, torch.Generator]):
    """The named random streams of one training run."""

    def __init__(self, seed: int, names: list[str], device: str):
        super().__init__({name: torch_stream(seed, name, device) for name in names})

    def state_dict(self) -> dict:
        return {name: generator.get_state() for name, generator in self.items()}

    def load_state_dict(self, state: dict) -> None:
        for name, generator in self.items():
            generator.set_state(state[name])
