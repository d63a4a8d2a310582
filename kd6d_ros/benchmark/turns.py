"""A program that measures when it is asked: a process of its own that waits while others have their turn."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional, Sequence

from kd6d_ros.errors import BagError, ConfigError

if TYPE_CHECKING:
    from pathlib import Path


class TurnProcess:
    """A child that prints a line of JSON when it is ready, and one for every line it reads; it ends with its input.

    Args:
        name: for error messages.
        errors: file for what it says on standard error.
        environment: variables beside those of this process.
    """

    def __init__(
        self, name: str, command: Sequence[str], errors: Path, environment: Optional[Mapping[str, str]] = None
    ) -> None:
        self.name, self._errors = name, errors
        with errors.open('wb') as handle:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=handle,
                env={**os.environ, 'PYTHONUNBUFFERED': '1', **(environment or {})},
                text=True,
            )

    def turn(self) -> Dict[str, Any]:
        """Let it work once; what it answers.

        Raises:
            ConfigError, BagError: see ``answer``.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write('turn\n')
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._broken() from None
        return self.answer()

    def answer(self) -> Dict[str, Any]:
        """The next line that it prints.

        Raises:
            ConfigError: it cannot run; its one line. BagError: it broke down.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._broken()
        answer: Dict[str, Any] = json.loads(line)
        return answer

    def finish(self) -> None:
        """End it in good order.

        Raises:
            ConfigError, BagError: it did not end well, see ``answer``.
        """
        assert self._process.stdin is not None
        self._process.stdin.close()
        if self._process.wait() != 0:
            raise self._broken()

    def end(self) -> None:
        """End it whatever it does."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def _broken(self) -> BagError | ConfigError:
        code = self._process.wait()
        lines = self._errors.read_text(encoding='utf-8', errors='replace').strip().splitlines()
        last = lines[-1] if lines else 'it said nothing'
        if code == 2:
            return ConfigError(last)
        return BagError(f'{self.name}: the benchmark process ended with code {code}: {last[-400:]}')
