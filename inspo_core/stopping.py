"""How a process is asked to stop: a flag that signals set and that loops look at between two steps."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from multiprocessing.connection import wait

_stop = threading.Event()
_reader, _writer = os.pipe()  # a byte in it wakes who waits


def stop_on(*signals: signal.Signals) -> None:
    """From now on these signals only ask this process to stop."""
    _stop.clear()
    for number in signals:
        signal.signal(number, lambda *_: _ask())


def _ask() -> None:
    if not _stop.is_set():
        _stop.set()
        os.write(_writer, b"x")


def stop_requested() -> bool:
    """Whether this process was asked to stop, or was started by one that is gone."""
    parent = multiprocessing.parent_process()
    return _stop.is_set() or (parent is not None and not parent.is_alive())


def wait_for_stop(sentinels: Sequence[int], seconds: float) -> None:
    """Return when one of the ``sentinels`` (of processes) is ready, when a stop is asked for, and after ``seconds`` at the latest."""
    if _reader in wait([*sentinels, _reader], seconds):
        os.read(_reader, 1)
