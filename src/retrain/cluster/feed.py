"""Takes tasks from a source that may be slow or endless, and no more of them than somebody asks for."""

import queue
import threading
from collections.abc import Callable, Iterable
from functools import partial

from retrain.cluster.tasks import Task

Events = queue.SimpleQueue[Callable[[], None]]


class Feed:
    """A thread that takes tasks, one for each that was asked for, and hands them on as events."""

    def __init__(
        self,
        tasks: Iterable[Task],
        events: Events,
        arrived: Callable[[Task], None],
        ended: Callable[[BaseException | None], None],
    ) -> None:
        """Begin; an event calls `arrived` with each task, or `ended` with what went wrong, None after the last one."""
        self._tasks, self._events, self._arrived, self._ended = tasks, events, arrived, ended
        self._asked, self._stop = threading.Semaphore(0), threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def ask(self, count: int) -> None:
        """Ask for more tasks."""
        if count > 0:
            self._asked.release(count)

    def stop(self) -> None:
        """End the thread, as soon as the source gives it the task that it waits for."""
        self._stop.set()
        self._asked.release()

    def _run(self) -> None:
        try:
            todo = iter(self._tasks)
            while True:
                self._asked.acquire()
                if self._stop.is_set():
                    return
                task = next(todo, None)
                if task is None:
                    break
                self._events.put(partial(self._arrived, task))
        except BaseException as error:  # raised again in the thread that waits for outcomes
            self._events.put(partial(self._ended, error))
        else:
            self._events.put(partial(self._ended, None))
