"""Child processes of a run: a quiet corner of DDS for them, their logs, and their orderly end."""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, Dict, List, Mapping, Optional, Sequence

from kd6d_ros.errors import BagError

PROFILE_VARIABLES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')
DOMAINS = range(20, 100)
"""Domain ids that are valid everywhere and that nobody's robot has by default (that is 0)."""
_CLAIMS: List[socket.socket] = []


def claim_domain() -> int:
    """A ROS_DOMAIN_ID of `DOMAINS` for this process until it ends: no other claim on this host gets it meanwhile.

    A claim is a name in Linux' abstract socket namespace, which belongs to the network namespace as DDS does, needs no
    file and goes with its process. Where every domain is taken (or there are no such names), one by chance.
    """
    for domain in secrets.SystemRandom().sample(DOMAINS, len(DOMAINS)):
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            claim.bind(f'\0kd6d_ros/domain/{domain}')
        except OSError:
            claim.close()
            continue
        _CLAIMS.append(claim)
        return domain
    return secrets.choice(DOMAINS)


def isolated_environment(base: Mapping[str, str], profile: Optional[Path] = None) -> Dict[str, str]:
    """`base` for processes that talk only on this host: loopback, no static peers, a domain of their own.

    `profile` is a Fast DDS profile that keeps to the loopback interface. It replaces a profile of the user,
    which may open other interfaces; isolation goes first here.
    """
    environment = {
        **base,
        'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
        'ROS_LOCALHOST_ONLY': '1',
        'ROS_DOMAIN_ID': str(claim_domain()),
        'PYTHONUNBUFFERED': '1',
    }
    for name in ('ROS_STATIC_PEERS', 'ROS_DISCOVERY_SERVER', *PROFILE_VARIABLES):
        environment.pop(name, None)
    if profile is not None:
        environment.update({name: str(profile) for name in PROFILE_VARIABLES})
    return environment


def python_module(module: str, *arguments: str) -> List[str]:
    """Command line that runs a module of this interpreter."""
    return [sys.executable, '-m', module, *arguments]


class ChildProcess:
    """One child with a log file for what it says on standard error (and output, unless it is piped)."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        pipe_output: bool = False,
    ) -> None:
        self.name, self.log = name, log
        with log.open('wb') as handle:
            self._process = subprocess.Popen(
                list(command),
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipe_output else handle,
                stderr=handle,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def running(self) -> bool:
        return self._process.poll() is None

    def last_words(self) -> str:
        """The last line of the log that is not part of a traceback's body, for an error message."""
        lines = self.log.read_text(encoding='utf-8', errors='replace').splitlines()
        spoken = [line.strip() for line in lines if line.strip()]
        return spoken[-1][:300] if spoken else 'it said nothing'

    def read_line(self, timeout_s: float) -> str:
        """The next line of piped output.

        Raises:
            BagError: none came in time, or the process ended first.
        """
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], timeout_s)
        line = self._process.stdout.readline().decode('utf-8', 'replace').strip() if ready else ''
        if not line:
            state = f'said nothing for {timeout_s:g} s' if self.running() and not ready else 'ended'
            raise BagError(f'{self.name} {state}: {self.last_words()} (see {self.log})')
        return line

    def wait(self, timeout_s: float, each_second: Callable[[], None] = lambda: None) -> None:
        """Wait for a good end; `each_second` is called meanwhile.

        Raises:
            BagError: another exit code than 0, or not in time.
        """
        end = time.monotonic() + timeout_s
        code = None
        while code is None and time.monotonic() < end:
            each_second()
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = self._process.wait(min(1.0, timeout_s))
        if code is None:
            raise BagError(f'{self.name} did not end within {timeout_s:g} s (see {self.log})')
        if code != 0:
            raise BagError(f'{self.name} ended with code {code}: {self.last_words()} (see {self.log})')

    def stop(self, patience_s: float = 8.0) -> Optional[int]:
        """End it politely, then firmly; return its exit code."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            if not self.running():
                break
            self._process.send_signal(number)
            end = time.monotonic() + patience_s
            while self.running() and time.monotonic() < end:
                time.sleep(0.02)
        if self._process.stdout is not None:
            self._process.stdout.close()
        return self._process.poll()


def memory_mb(pid: int) -> Optional[float]:
    """Resident memory [MB, 10^6 bytes] of a process, from /proc; None where that does not exist."""
    try:
        with open(f'/proc/{pid}/statm', encoding='ascii') as handle:
            pages = int(handle.read().split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return pages * os.sysconf('SC_PAGE_SIZE') / 1e6


def maps_torch(pid: int) -> Optional[bool]:
    """Whether a process has torch's libraries mapped; None where /proc does not exist."""
    try:
        with open(f'/proc/{pid}/maps', encoding='utf-8', errors='replace') as handle:
            return any('libtorch' in line or '/torch/' in line for line in handle)
    except OSError:
        return None
