"""Gradient steps on batches drawn beforehand, on a GPU as one CUDA graph that is replayed for each batch.

A step of small networks is some hundred short kernels, and a GPU that is handed them one by one waits for the processor most of
the time. A graph is handed over whole.

Shapes: G gradient steps.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Step = Callable[[Sequence[Tensor]], list[Tensor]]  # of a batch: the values to log, all without gradient


class LookedUpSteps:
    """Steps that look their batch up, and the place of what they log, by a counter on the device.

    So each makes the same calls on the same memory, and a recording of one can be replayed as any other.
    """

    def __init__(self, step: Step, columns: Sequence[Tensor], axis: int):
        """``columns``: the batches, G of them along ``axis``."""
        self.count = columns[0].shape[axis]
        self._step, self._columns, self._axis = step, columns, axis
        self._position = torch.zeros(1, dtype=torch.int64, device=columns[0].device)
        self.logged: list[Tensor] = []  # (G, ...) each; there after the first step

    def __call__(self) -> None:
        batch = [column.index_select(self._axis, self._position).squeeze(self._axis) for column in self._columns]
        values = self._step(batch)
        if not self.logged:
            self.logged = [value.new_empty(self.count, *value.shape) for value in values]
        for log, value in zip(self.logged, values, strict=True):
            log.index_copy_(0, self._position, value.unsqueeze(0))
        self._position += 1


def take_steps(step: Step, columns: Sequence[Tensor], axis: int, recordable: bool = True) -> list[Tensor]:
    """``step`` on each of the G batches along ``axis`` of the ``columns``, in turn; what they logged, (G, ...) each.

    ``recordable``: a step does the same for every batch, asks the device for no value and draws nothing at random.
    """
    if recordable and columns[0].is_cuda:
        return replay_steps(step, columns, axis)
    logged = [step(batch) for batch in zip(*(column.unbind(axis) for column in columns))]
    return [torch.stack(values) for values in zip(*logged)]


def replay_steps(step: Step, columns: Sequence[Tensor], axis: int) -> list[Tensor]:
    """:func:`take_steps` on a GPU, all but the first step as replays of one recording."""
    steps = LookedUpSteps(step, columns, axis)
    caller, side = torch.cuda.current_stream(), torch.cuda.Stream()
    side.wait_stream(caller)
    with torch.cuda.stream(side):
        steps()  # what libraries set up when they are first used cannot be recorded
    caller.wait_stream(side)
    if steps.count > 1:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            steps()  # recorded, not run
        for _ in range(steps.count - 1):
            graph.replay()
        caller.synchronize()  # the graph's memory is free for others once it is gone
    return steps.logged
