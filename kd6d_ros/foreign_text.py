"""Words of other people's messages in ours: quoted, of a bounded length, without control characters."""

from __future__ import annotations

MOST = 60


def shown(text: str) -> str:
    """`text` as it may stand in a message: its start in quotes, and how much is left out."""
    if len(text) <= MOST:
        return repr(text)
    return f'{text[:MOST]!r}... ({len(text)} characters)'
