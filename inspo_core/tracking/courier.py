"""The thread of a stage's process that delivers its records: what MLflow takes long for holds up neither seeds nor signals."""

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from inspo_core.stopping import stop_requested
from inspo_core.tracking.mlflow.delivery import patiently

DELIVER_SECONDS = 5.0  # between two deliveries of a stage that runs
RETRY_SECONDS = 60.0  # after the store was found unreachable
STOP_SECONDS = 5.0  # that a stage waits for its last delivery once it is asked to stop
LOOK_SECONDS = 0.1


class Courier:
    """Calls ``deliver`` every few seconds, more rarely after it returned False, and patiently at the end.

    Importing MLflow and opening a store take seconds, and a server that does not answer many more.
    """

    def __init__(self, deliver: Callable[[], bool]):
        self._deliver = deliver
        self._asked: queue.SimpleQueue[tuple[Future[bool], bool]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="delivery", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def deliver(self) -> bool:
        """A delivery now, and what it returned. Raises what it raises, as :meth:`finish` does."""
        return self._ask(last=False).result()

    def finish(self) -> bool:
        """The last delivery, :func:`patiently`; False also where it takes long and the process was asked to stop."""
        answer, deadline = self._ask(last=True), float("inf")
        while True:
            try:
                return answer.result(LOOK_SECONDS)
            except TimeoutError:
                if answer.done():
                    raise  # the delivery's own
                if stop_requested():
                    deadline = min(deadline, time.monotonic() + STOP_SECONDS)
                if time.monotonic() > deadline:
                    return False

    def _ask(self, last: bool) -> "Future[bool]":
        answer: Future[bool] = Future()
        self._asked.put((answer, last))
        return answer

    def _run(self) -> None:
        pause, bug = 0.0, None
        while True:
            answer, last = self._next(pause)
            try:
                if bug:
                    raise bug
                delivered = patiently(self._deliver) if last else self._deliver()
                pause = DELIVER_SECONDS if delivered else RETRY_SECONDS
                if answer:
                    answer.set_result(delivered)
            except Exception as error:
                pause, bug = RETRY_SECONDS, error  # it is the stage's own thread that must end with it
                if answer:
                    answer.set_exception(error)
            if last:
                return

    def _next(self, pause: float) -> "tuple[Future[bool] | None, bool]":
        try:
            return self._asked.get(timeout=pause)
        except queue.Empty:
            return None, False
