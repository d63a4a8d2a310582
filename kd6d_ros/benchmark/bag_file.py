"""An MCAP bag that appears under its name only when it is complete; what breaks off leaves nothing behind."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Optional

from kd6d_ros.benchmark import messages
from kd6d_ros.errors import BagError

if TYPE_CHECKING:
    from types import TracebackType

METADATA_VERSION = 8
"""The newest layout whose QoS field Humble's reader still understands."""


class BagFile:
    """A bag under construction; use it as a context manager.

    Raises:
        BagError: the target exists, or its parent cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        if self.path.exists():
            raise BagError(f'{self.path}: exists already; choose another name or delete it first')
        self._store = messages.type_store()
        self._aside = self.path.with_name(f'.{self.path.name}.{os.getpid()}.tmp')
        self._writer: Any = None
        self._connections: Dict[str, Any] = {}

    def __enter__(self) -> BagFile:
        from rosbags.rosbag2 import StoragePlugin, Writer

        try:
            self._aside.mkdir(parents=True)
            # The bag's file takes the name of its folder, so the folder already carries the final name.
            self._writer = Writer(
                self._aside / self.path.name, version=METADATA_VERSION, storage_plugin=StoragePlugin.MCAP
            )
            self._writer.open()
        except OSError as error:
            shutil.rmtree(self._aside, ignore_errors=True)
            raise BagError(f'{self.path}: cannot be written ({error.strerror}); choose another folder') from None
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        try:
            self._writer.close()
            if kind is None:
                os.replace(self._aside / self.path.name, self.path)
        finally:
            shutil.rmtree(self._aside, ignore_errors=True)

    def write(self, topic: str, msgtype: str, stamp_ns: int, message: Any) -> None:
        """Append a message, recorded at its stamp."""
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(topic, msgtype, typestore=self._store)
        self._writer.write(self._connections[topic], stamp_ns, self._store.serialize_cdr(message, msgtype))
