"""The policy that acts, and its files.

Shapes: N agents, B batch, T steps, A actions, O observation size.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from inspo_core.algorithms.networks import StackedNetworks, Standardizer, masked_log_softmax
from inspo_core.algorithms.recurrent import stacked
from inspo_core.errors import InspoError
from inspo_core.files import write_json


class Policy:
    """pi(a|o) = prod_i pi^i(a^i|o^i): every agent acts on its own observation.

    The networks' outputs times ``sharpness`` are the logits; a large one makes a policy of action values greedy.
    """

    def __init__(self, network: StackedNetworks, standardizer: Standardizer, sharpness: float = 1.0):
        self.network, self.standardizer, self.sharpness = network, standardizer, sharpness

    @torch.no_grad()
    def log_probs(self, observations: Tensor, available: Tensor | None = None) -> Tensor:
        """Log-probabilities of every agent's actions: (B, N, A).

        observations (B, N, O) as the game gives them, of networks with memory (B, T, N, O), all of the episode so far or at
        least the last ``network.memory`` steps; available (B, N, A) bool or None.
        """
        logits = self.network(self._inputs(observations)).transpose(0, 1)
        return masked_log_softmax(self.sharpness * logits, available)

    def _inputs(self, observations: Tensor) -> Tensor:
        memory = self.network.memory
        if memory == 0:
            return self.standardizer(observations.transpose(0, 1))
        seen = observations[:, -memory:].permute(2, 0, 1, 3).flatten(1, 2)  # (N, B T, O)
        seen = self.standardizer(seen).unflatten(1, (len(observations), -1))
        missing = memory - seen.shape[2]
        return torch.nn.functional.pad(torch.cat([seen, torch.ones_like(seen[..., :1])], -1), (0, 0, missing, 0))

    def save(self, directory: Path) -> None:
        """Write ``policy.safetensors`` and ``policy.json`` (architecture) into ``directory``."""
        network = self.network
        architecture = {"n_agents": network.n, "sizes": network.sizes, "memory": network.memory, "sharpness": self.sharpness}
        write_json(directory / "policy.json", architecture)
        tensors = {
            "parameters": self.network.parameters,
            "mean": self.standardizer.mean,
            "scale": self.standardizer.scale,
        }
        serialised = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
        (directory / "policy.safetensors").write_bytes(serialised)

    @classmethod
    def load(cls, directory: Path, device: str = "cpu") -> "Policy":
        """Read what :meth:`save` wrote; InspoError if it is missing or damaged."""
        directory = Path(directory)
        try:
            architecture = json.loads((directory / "policy.json").read_text())
            tensors = load_file(directory / "policy.safetensors", device=device)
            shape = architecture["n_agents"], architecture["sizes"], architecture["memory"]
            network = stacked(*shape, torch.Generator(device), device)
            network.parameters.copy_(tensors["parameters"])
            return cls(network, Standardizer(tensors["mean"], tensors["scale"]), architecture["sharpness"])
        except Exception as error:  # safetensors raises its own kinds for damaged files
            raise InspoError(f"{directory} holds no readable policy ({error}); run the train stage again") from error
