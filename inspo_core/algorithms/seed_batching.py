"""Gradient steps on batches drawn beforehand, for one training run or for several runs as one batched computation.

Small networks keep neither a processor nor a GPU busy: a step takes as long as its calls, whatever they compute. Runs of the
same algorithm on the same data make the same calls in the same order, and so can share them.

Shapes: N networks of a stack, G gradient steps, B batch, K networks of several runs together.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from inspo_core.algorithms.cuda_graphs import take_steps
from inspo_core.algorithms.networks import RowOptimizers, StackedNetworks
from inspo_core.algorithms.recurrent import stacked

Forward = Callable[[Tensor], Tensor]  # (B, in) -> (B, out), or with an axis N before B
# loss(network: Forward, target: Forward, constants, *batch) -> values to log, the first one descended: () of one network, (N,) of all
Loss = Callable[..., tuple[Tensor, ...]]


@dataclass(frozen=True)
class Fit:
    """A gradient step on each of G batches, for a stack of networks or for one network of it."""

    optimizers: RowOptimizers
    agent: int | None  # the network that learns alone; None: all N
    loss: Loss
    columns: tuple[Tensor, ...]  # the batches: (G, B, ...) of one network, (N, G, B, ...) of all
    constants: tuple[float, ...] = ()
    target: StackedNetworks | None = None  # of a stack, what follows it at ``target_rate`` a step
    target_rate: float = 0.0
    rates: tuple[float, ...] = ()  # (G,) learning rates, where they are not the optimizers' one

    @property
    def kind(self) -> tuple:
        """Fits of one kind are one computation, on other numbers."""
        network = self.optimizers.network
        architecture = (type(network), network.n, tuple(network.sizes), network.memory)
        batches = tuple((column.shape, column.dtype) for column in self.columns)
        schedule = (self.rates or self.optimizers.learning_rate, self.constants, self.target_rate)
        return (self.loss, self.agent is None, self.target is None, architecture, schedule, batches)

    def step(self, batch: Sequence[Tensor]) -> list[Tensor]:
        """The step on one of the batches; what the loss logs."""
        stack = self.optimizers.network
        network = stack if self.agent is None else partial(stack.one, self.agent)
        values = self.loss(network, self.target, self.constants, *batch)
        self.optimizers.step(values[0].sum(), self.agent)
        if self.target is not None:
            self.target.parameters.lerp_(stack.parameters, self.target_rate)
        return [value.detach() for value in values]


Fitter = Callable[[Fit], list[Tensor]]


def fit_alone(fit: Fit) -> list[Tensor]:
    """What the loss logged at each step: (G,) of one network, (G, N) of a stack."""
    rates = iter(fit.rates)

    def step(batch: Sequence[Tensor]) -> list[Tensor]:
        fit.optimizers.learning_rate = next(rates, fit.optimizers.learning_rate)
        return fit.step(batch)

    return take_steps(step, fit.columns, axis=1 if fit.agent is None else 0, recordable=not fit.rates)


def fit_together(fits: list[Fit]) -> list[list[Tensor]]:
    """As :func:`fit_alone` of each of several fits of one kind, computed as one stack of K networks."""
    if len(fits) == 1:
        return [fit_alone(fits[0])]
    first, stack = fits[0], fits[0].optimizers.network
    counts = [stack.n if fit.agent is None else 1 for fit in fits]
    device = stack.parameters.device

    def empty() -> StackedNetworks:
        return stacked(sum(counts), stack.sizes, stack.memory, torch.Generator(device), str(device))

    optimizers, target = RowOptimizers(empty(), first.optimizers.learning_rate), empty() if first.target is not None else None
    join = torch.cat if first.agent is None else torch.stack
    columns = tuple(join(column) for column in zip(*(fit.columns for fit in fits)))
    own = [tensor for fit in fits for tensor in _state(fit.optimizers, fit.target, fit.agent)]
    shared = _state(optimizers, target, None)
    with torch.no_grad():
        torch._foreach_copy_(shared, own)
    logged = fit_alone(Fit(optimizers, None, first.loss, columns, first.constants, target, first.target_rate, first.rates))
    with torch.no_grad():
        torch._foreach_copy_(own, shared)
    of_fits = zip(*(values.split(counts, 1) for values in logged))
    # Contiguous as those of a fit alone are: sums over them then add in the same order.
    return [[(part if fit.agent is None else part.squeeze(1)).contiguous() for part in parts] for fit, parts in zip(fits, of_fits)]


def _state(optimizers: RowOptimizers, target: StackedNetworks | None, agent: int | None) -> list[Tensor]:
    """All that a fit changes, network by network."""
    state = []
    for row in range(optimizers.network.n) if agent is None else [agent]:
        state += optimizers.state_of(row)
        if target is not None:
            state += target.rows[row]
    return state


class Together:
    """Lets several runs, a thread each, make their fits together.

    Threads take turns, in an order that does not matter: each has random streams of its own. A run goes on alone until its next
    fit, which waits for those of the others; when all that have not ended wait, fits of one kind are computed at once. So a run
    that ends early, or that is ahead of the others, holds none of them up.
    """

    def __init__(self, runs: int):
        self._running = runs
        self._turn = threading.Condition()
        self._asked: dict[int, Fit] = {}  # by thread
        self._answers: dict[int, list[Tensor] | Exception] = {}

    @contextmanager
    def run(self) -> Iterator[None]:
        """Encloses everything that a run's thread does."""
        with self._turn:
            try:
                yield
            finally:
                self._running -= 1
                self._answer_if_all_wait()

    def fit(self, fit: Fit) -> list[Tensor]:
        """:func:`fit_alone` or :func:`fit_together`; what that raises, in every thread whose fit was part of it."""
        me = threading.get_ident()
        self._asked[me] = fit
        self._answer_if_all_wait()
        self._turn.wait_for(lambda: me in self._answers)
        answer = self._answers.pop(me)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _answer_if_all_wait(self) -> None:
        if len(self._asked) < self._running:
            return
        kinds: dict[tuple, list[int]] = {}
        for thread, fit in self._asked.items():
            kinds.setdefault(fit.kind, []).append(thread)
        for threads in kinds.values():
            answers: list[list[Tensor] | Exception]
            try:
                answers = list(fit_together([self._asked[thread] for thread in threads]))
            except Exception as error:  # out of memory, for one
                answers = [error] * len(threads)
            self._answers.update(zip(threads, answers))
        self._asked.clear()
        self._turn.notify_all()
