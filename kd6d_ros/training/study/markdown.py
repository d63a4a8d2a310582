"""How the tables of a study's report are written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[str]) -> list[str]:
    """Lines of a table with the columns `head` and these rows; nothing without rows."""
    return [f'| {" | ".join(head)} |', '|---' * len(head) + '|', *rows] if rows else []


def mean_and_spread(shares: Sequence[float]) -> str:
    """Mean of shares in percent, with the standard deviation where there are several."""
    percent = [100 * float(share) for share in shares]
    spread = f' ± {np.std(percent, ddof=1):.1f}' if len(percent) > 1 else ''
    return f'{np.mean(percent):.1f}{spread}'
