"""Engines on disk: one entry per network, precision and input size, each an engine and a sidecar.

``<entry>.json`` says what ``<entry>.<hash>.engine`` was built from and for, and its sha256. A new engine is written
aside, renamed to a name of its own, and then the sidecar is replaced in one step: whoever dies in between, by SIGKILL
or a full disk, leaves the old sidecar with the old engine.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, Optional, Tuple

from kd6d_ros.errors import EngineError
from kd6d_ros.inference.engines.cache_folder import not_private
from kd6d_ros.inference.engines.file_lock import held

if TYPE_CHECKING:
    from pathlib import Path

    from kd6d_ros.inference.engines.tensorrt_seam import Notify

SCHEMA = 1
MAX_SIDECAR_BYTES = 1 << 20
MAX_ENGINE_BYTES = 1 << 32
MISSING = 'it is not there yet'


@dataclass(frozen=True)
class Entry:
    """Which engine is wanted: `name` for people and files, `key` everything that must be the same."""

    name: str
    key: Mapping[str, Any]


@dataclass(frozen=True)
class Stored:
    """An engine and what its sidecar says about how it came out."""

    plan: bytes
    facts: Mapping[str, Any]


Build = Callable[[], Stored]
Accept = Callable[[Stored], Optional[str]]
"""Why a stored engine will not do although its key fits, or None."""


class NotBuiltError(EngineError):
    """The cache alone does not have the engine."""


class UnusableError(Exception):
    """Why an entry cannot be used; becomes one line."""


class EngineCache:
    """The entries of one folder (see ``private_folder``)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, entry: Entry, accept: Accept) -> Stored:
        """The engine of an entry.

        Raises:
            NotBuiltError: it would have to be built; says why.
        """
        stored, reason = self._acceptable(entry, accept)
        if stored is None:
            raise NotBuiltError(f'no engine {entry.name} in {self.folder}: {reason}')
        return stored

    def get_or_build(
        self, entry: Entry, build: Build, notify: Notify, accept: Accept, force: bool = False
    ) -> Tuple[Stored, bool]:
        """The engine of an entry, built if it has to be, and whether it was. Two processes never build the same.

        Raises:
            EngineError: the build failed, or its result cannot be written. What was there stays.
        """
        started = time.time()
        if not force:
            stored, _ = self._acceptable(entry, accept)
            if stored is not None:
                return stored, False
        waiting = f'{entry.name}: another process builds this engine; waiting for it'
        try:
            with held(self.folder / f'{entry.name}.lock', notify, waiting):
                # Somebody else may have built it meanwhile, which is as good even if a new one is asked for.
                if not force or self._written(entry) >= started:
                    stored, reason = self._acceptable(entry, accept)
                    if stored is not None:
                        return stored, False
                    if reason != MISSING:
                        notify(f'{entry.name}: building it again: {reason}')
                self._remove_remains(entry)
                built = build()
                self._write(entry, built)
                return built, True
        except OSError as error:
            what = (error.strerror or str(error)).lower()
            raise EngineError(f'{self.folder / entry.name}: {what}; the engine was not kept') from error

    def _acceptable(self, entry: Entry, accept: Accept) -> Tuple[Optional[Stored], str]:
        try:
            stored = self._read(entry)
        except UnusableError as reason:
            return None, str(reason)
        objection = accept(stored)
        return (stored, '') if objection is None else (None, objection)

    def _sidecar(self, entry: Entry) -> Path:
        return self.folder / f'{entry.name}.json'

    def _written(self, entry: Entry) -> float:
        path = self._sidecar(entry)
        return path.stat().st_mtime if path.exists() else 0.0

    def _read(self, entry: Entry) -> Stored:
        try:
            record = json.loads(_private_bytes(self._sidecar(entry), MAX_SIDECAR_BYTES))
        except FileNotFoundError:
            raise UnusableError(MISSING) from None
        except (OSError, ValueError, RecursionError) as error:
            raise UnusableError(f'its sidecar cannot be read ({" ".join(str(error).split())[:200]})') from None
        if not isinstance(record, dict) or record.get('schema') != SCHEMA:
            raise UnusableError('its sidecar is of another version of kd6d_ros')
        difference = _difference(record.get('key'), entry.key)
        if difference is not None:
            raise UnusableError(difference)
        name, digest = record.get('engine'), record.get('sha256')
        if not isinstance(name, str) or not isinstance(digest, str) or name != _engine_name(entry, digest):
            raise UnusableError('its sidecar does not name an engine')
        try:
            plan = _private_bytes(self.folder / name, MAX_ENGINE_BYTES)
        except OSError as error:
            raise UnusableError(f'its engine cannot be read ({error.strerror or error})') from None
        if hashlib.sha256(plan).hexdigest() != digest:
            raise UnusableError('its engine was changed or cut short')
        facts = record.get('facts')
        return Stored(plan, facts if isinstance(facts, dict) else {})

    def _write(self, entry: Entry, built: Stored) -> None:
        digest = hashlib.sha256(built.plan).hexdigest()
        name = _engine_name(entry, digest)
        record = {
            'schema': SCHEMA,
            'engine': name,
            'sha256': digest,
            'bytes': len(built.plan),
            'written': time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime()),
            'key': entry.key,
            'facts': built.facts,
        }
        text = json.dumps(record, indent=1, sort_keys=True) + '\n'
        _put(self.folder / name, built.plan, self._aside(entry, 'engine'))
        _put(self._sidecar(entry), text.encode(), self._aside(entry, 'json'))
        for path in self._engines(entry):
            if path.name != name:
                path.unlink(missing_ok=True)

    def _aside(self, entry: Entry, kind: str) -> Path:
        return self.folder / f'.{entry.name}.{os.getpid()}.{kind}.tmp'

    def _engines(self, entry: Entry) -> List[Path]:
        return [path for path in self.folder.glob(f'{entry.name}.*.engine') if len(path.name.split('.')) == 3]

    def _remove_remains(self, entry: Entry) -> None:
        """Files of builds that were killed; the lock says that no other build is under way."""
        for path in self.folder.glob(f'.{entry.name}.*.tmp'):
            path.unlink(missing_ok=True)


def _engine_name(entry: Entry, digest: str) -> str:
    return f'{entry.name}.{digest[:12]}.engine'


def _put(path: Path, data: bytes, aside: Path) -> None:
    """Write a file aside and rename it; nothing is left of it when that fails."""
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, 'wb') as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def _private_bytes(path: Path, most: int) -> bytes:
    """A regular file that belongs to the user or root and that nobody else may write to. Owner and bytes are those
    of one open file: nobody can exchange it in between.

    Raises:
        OSError, UnusableError: it cannot be opened, or is not such a file.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, 'rb') as file:
        status = os.fstat(file.fileno())
        problem = not_private(status)
        if problem is not None:
            raise UnusableError(f'{path.name} is not trusted: {problem}')
        if not stat.S_ISREG(status.st_mode) or status.st_size > most:
            raise UnusableError(f'{path.name} is no file of at most {most} bytes')
        return file.read()


def _difference(stored: Any, wanted: Mapping[str, Any]) -> Optional[str]:
    """What differs first between two keys, in words."""
    if not isinstance(stored, dict):
        return 'its sidecar has no key'
    plain: Dict[str, Any] = json.loads(json.dumps(wanted))
    for name in sorted({*stored, *plain}):
        if stored.get(name) != plain.get(name):
            was, now = (' '.join(str(x).split())[:80] for x in (stored.get(name), plain.get(name)))
            return f'it was built for {name} {was}, here it is {now}'
    return None
