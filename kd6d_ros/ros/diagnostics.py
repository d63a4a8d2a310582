"""What is wrong and how fast it goes, for the log (throttled) and for /diagnostics (once per second).

The record keeping needs no ROS; only ``diagnostics_message`` builds messages, and imports them late.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from dataclasses import dataclass
from time import monotonic
from typing import Any, Callable, Deque, Dict, List, Mapping, Tuple

OK, WARN, ERROR, STALE = range(4)
SECTIONS = ('node', 'input', 'estimation')
HOLD_S = 3.0
"""A problem of single images stays visible this long after its last occurrence."""
LOG_PERIOD_S = 10.0
"""The same problem is logged once per this many seconds."""
MOST_KINDS = 64
"""Most problems of single images that are remembered: their kinds hold words of other people's messages."""

QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
"""Quoted words in a message, which are those of somebody else."""

WINDOW = 300
"""Percentiles are over this many images: ten seconds at 30 Hz."""


@dataclass
class Problem:
    """`lasting`: stands until cleared; otherwise until HOLD_S after it last happened."""

    section: str
    level: int
    text: str
    lasting: bool
    count: int
    seen: float
    logged: float


def kind_of(text: str) -> str:
    """What makes two messages the same problem: their words, without figures and without what they quote."""
    return re.sub(r'[^A-Za-z ]', '', QUOTED.sub('', text))[:48]


def fault_text(error: BaseException) -> str:
    """An error that no user can cure, in one line."""
    return f'{type(error).__name__}: {error} (a fault of this package, please report it)'


def log_at(logger: Any, level: int, text: str) -> None:
    """Log an error or a warning; rclpy wants one severity per line of code."""
    if level == ERROR:
        logger.error(text)
    else:
        logger.warning(text)


class Problems:
    """What is wrong now, by kind. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._problems: Dict[str, Problem] = {}

    def report(self, kind: str, section: str, level: int, text: str, lasting: bool = False) -> bool:
        """Note a problem; True when it should be logged now (new, or not logged for LOG_PERIOD_S)."""
        now = self._clock()
        with self._lock:
            known = self._problems.get(kind)
            count = 1 if known is None else known.count + 1
            again = known is not None and now - known.logged < LOG_PERIOD_S
            logged = known.logged if known is not None and again else now
            self._problems[kind] = Problem(section, level, text, lasting, count, now, logged)
            self._forget_oldest()
            return not again

    def clear(self, kind: str) -> None:
        with self._lock:
            self._problems.pop(kind, None)

    def clear_group(self, start: str) -> None:
        """Clear every problem whose kind begins with `start`."""
        with self._lock:
            for kind in [kind for kind in self._problems if kind.startswith(start)]:
                del self._problems[kind]

    def clear_all(self) -> None:
        with self._lock:
            self._problems.clear()

    def _forget_oldest(self) -> None:
        passing = [kind for kind, item in self._problems.items() if not item.lasting]
        if len(passing) > MOST_KINDS:
            del self._problems[min(passing, key=lambda kind: self._problems[kind].seen)]

    def active(self, section: str) -> List[Problem]:
        """Problems of a section, worst first."""
        now = self._clock()
        with self._lock:
            mine = [item for item in self._problems.values() if item.section == section]
        mine = [item for item in mine if item.lasting or now - item.seen <= HOLD_S]
        return sorted(mine, key=lambda item: (-item.level, -item.seen))


class Statistics:
    """Counts and the stage times of the last `window` images. Thread-safe."""

    def __init__(self, window: int = WINDOW) -> None:
        self._lock = threading.Lock()
        self._window = window
        self._counts: Dict[str, int] = {}
        self._times: Dict[str, Deque[float]] = {}
        self._marks: Dict[str, Deque[float]] = {}

    def count(self, name: str, by: int = 1) -> None:
        with self._lock:
            self._counts[name] = self._counts.get(name, 0) + by

    def mark(self, name: str) -> None:
        """Count an event and remember when it happened, for ``rate``."""
        self.count(name)
        with self._lock:
            self._marks.setdefault(name, deque(maxlen=self._window)).append(monotonic())

    def times(self, stages: Mapping[str, float]) -> None:
        with self._lock:
            for stage, seconds in stages.items():
                self._times.setdefault(stage, deque(maxlen=self._window)).append(seconds)

    def reset(self) -> None:
        with self._lock:
            self._counts.clear()
            self._times.clear()
            self._marks.clear()

    def get(self, name: str) -> int:
        with self._lock:
            return self._counts.get(name, 0)

    def counts(self, prefix: str) -> Dict[str, int]:
        """Counts whose name starts with `prefix`, without it."""
        with self._lock:
            return {name[len(prefix) :]: value for name, value in self._counts.items() if name.startswith(prefix)}

    def rate(self, name: str, over: float = 5.0) -> float:
        """Events per second in the last `over` seconds, by intervals (not by counts)."""
        now = monotonic()
        with self._lock:
            recent = [mark for mark in self._marks.get(name, ()) if now - mark <= over]
        if len(recent) < 2 or recent[-1] == recent[0]:
            return 0.0
        return (len(recent) - 1) / (recent[-1] - recent[0])

    def percentiles(self) -> Dict[str, Tuple[float, float, float]]:
        """(p50, p95, p99) [s] per stage over the last images."""
        with self._lock:
            copies = {stage: sorted(values) for stage, values in self._times.items() if values}
        return {
            stage: (_nearest_rank(v, 50), _nearest_rank(v, 95), _nearest_rank(v, 99)) for stage, v in copies.items()
        }


def _nearest_rank(ordered: List[float], percent: int) -> float:
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def diagnostics_message(stamp: Any, name: str, problems: Problems, sections: Mapping[str, Mapping[str, str]]) -> Any:
    """diagnostic_msgs/DiagnosticArray with one status per section; its message is the worst problem."""
    from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

    array = DiagnosticArray()
    array.header.stamp = stamp
    for section in SECTIONS:
        active = problems.active(section)
        # The level is a ROS byte, which Python sees as bytes of length 1.
        status = DiagnosticStatus(level=bytes([active[0].level if active else OK]), name=f'{name}: {section}')
        status.message = active[0].text if active else 'ok'
        status.hardware_id = name
        values = dict(sections.get(section, {}))
        values.update({f'problem {i + 1} ({item.count} times)': item.text for i, item in enumerate(active)})
        status.values = [KeyValue(key=key, value=value) for key, value in values.items()]
        array.status.append(status)
    return array
