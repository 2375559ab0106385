"""Several worker processes: start them, replace those that end, and stop them all."""

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Event
from typing import Final, NamedTuple

from contact_gateway.server.stopping import stop_signals_handled

_SPAWN: Final = multiprocessing.get_context("spawn")
# A terminal sends these to all processes of a command. The supervisor stops its workers itself.
_OF_THE_TERMINAL: Final = (signal.SIGINT, signal.SIGHUP)

_POLL_SECONDS: Final = 0.1

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Worker:
    process: SpawnProcess
    started: Event

    def has_failed_to_start(self) -> bool:
        """Return whether the process has ended by itself before it accepted requests."""
        return (self.process.exitcode or 0) > 0 and not self.started.is_set()


class Callbacks(NamedTuple):
    """What the supervisor calls.

    Attributes:
        started: called when all workers accept requests.
        stopping: called before the workers are stopped.
        ended: called with the id of each process that has ended.
    """

    started: Callable[[], None]
    stopping: Callable[[], None]
    ended: Callable[[int], None]


class Supervisor:
    """Runs one function in several processes until a signal to stop, and again where it ends.

    Args:
        work: the function of a worker. It is given a function to call when the worker accepts
            requests. It is pickled.
        workers: the number of processes.
        callbacks: the functions to call at its events.
        stop_seconds: the time after which a worker that does not stop is killed.
    """

    def __init__(
        self,
        work: Callable[[Callable[[], None]], None],
        workers: int,
        callbacks: Callbacks,
        stop_seconds: float,
    ) -> None:
        self._work: Final = work
        self._callbacks: Final = callbacks
        self._stop_seconds: Final = stop_seconds
        self._is_stopping = False
        self._count: Final = workers
        self._workers: Final[list[_Worker]] = []

    def run(self) -> bool:
        """Run the workers until the end; return False if one of them could not start."""
        with self._signals() as signalled:
            has_started = has_failed = False
            try:
                for _ in range(self._count):
                    self._workers.append(self._started())
                while not self._is_stopping and not has_failed:
                    wait(
                        [signalled, *(worker.process.sentinel for worker in self._workers)],
                        # The start of a worker ends no wait.
                        None if has_started else _POLL_SECONDS,
                    )
                    has_failed = self._replace_ended()
                    if not has_started and all(worker.started.is_set() for worker in self._workers):
                        has_started = True
                        self._callbacks.started()
            finally:
                self._stop()
        return not has_failed

    def _started(self) -> _Worker:
        started = _SPAWN.Event()
        process = _SPAWN.Process(target=self._work, args=(started.set,))
        # The mask is inherited.
        earlier = signal.pthread_sigmask(signal.SIG_BLOCK, _OF_THE_TERMINAL)
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, earlier)
        return _Worker(process, started)

    def _replace_ended(self) -> bool:
        """Start a worker for each that has ended; return True if one could not start."""
        for index, worker in enumerate(self._workers):
            if worker.process.is_alive() or self._is_stopping:
                continue
            self._forget(worker)
            if worker.has_failed_to_start():
                return True
            _log.warning(
                "worker %d ended with status %s; starting another",
                worker.process.pid,
                worker.process.exitcode,
            )
            self._workers[index] = self._started()
        return False

    def _stop(self) -> None:
        self._callbacks.stopping()
        for worker in self._workers:
            worker.process.terminate()
        timer = threading.Timer(self._stop_seconds, self._kill)
        timer.daemon = True
        timer.start()
        for worker in self._workers:
            worker.process.join()
            self._forget(worker)
        timer.cancel()

    def _kill(self) -> None:
        for worker in self._workers:
            worker.process.kill()

    def _forget(self, worker: _Worker) -> None:
        worker.process.join()
        if worker.process.pid is not None:
            self._callbacks.ended(worker.process.pid)

    @contextmanager
    def _signals(self) -> Iterator[int]:
        """Handle the signals to stop; yield a file descriptor that is readable after one."""

        def stop(*_: object) -> None:
            if self._is_stopping:
                self._kill()
            self._is_stopping = True

        # macOS has no `pipe2`.
        readable, writable = os.pipe()
        for end in (readable, writable):
            os.set_blocking(end, False)
        wakeup = signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
        try:
            with stop_signals_handled(stop):
                yield readable
        finally:
            signal.set_wakeup_fd(wakeup)
            os.close(readable)
            os.close(writable)
