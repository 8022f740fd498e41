"""How a process is asked to stop: a flag that signals set and that loops look at between two steps."""

import multiprocessing
import signal
import threading

_stop = threading.Event()


def stop_on(*signals: signal.Signals) -> None:
    """From now on these signals only ask this process to stop."""
    _stop.clear()
    for number in signals:
        signal.signal(number, lambda *_: _stop.set())


def stop_requested() -> bool:
    """Whether this process was asked to stop, or was started by one that is gone."""
    parent = multiprocessing.parent_process()
    return _stop.is_set() or (parent is not None and not parent.is_alive())
