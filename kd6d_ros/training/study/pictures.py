"""Clouds of predicted corners of teacher, plain and distilled student on the same windows, as in the paper's figure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from kd6d_ros.training.checkpoint import load_checkpoint
from kd6d_ros.training.study.clouds import cloud, drawn
from kd6d_ros.training.study.plan import TEACHER
from kd6d_ros.training.study.runs import pack_of

if TYPE_CHECKING:
    from kd6d_ros.training.study.clouds import Cloud
    from kd6d_ros.training.study.plan import StudyPlan
    from kd6d_ros.types import AnyArray

ZOOM, MARGIN = 3, 0.4
TITLE_HEIGHT = 36
COLOURS = tuple(
    tuple(int(v) for v in cv2.cvtColor(np.uint8([[[h, 220, 255]]]), cv2.COLOR_HSV2RGB)[0, 0])  # type: ignore[call-overload, arg-type]
    for h in range(0, 176, 22)
)


def cloud_picture(plan: StudyPlan, student: str, arms: tuple[str, str], target: Path, rows: int = 6) -> bool:
    """Write a contact sheet: one row per test object, columns teacher, `arms[0]`, `arms[1]`, with the corners that the
    best cells predict, one colour per corner, and the true ones as crosses. False when a run is missing."""
    seed = str(plan.seeds[student][0])
    files = [plan.folder / TEACHER / 'final.pt', *(plan.folder / student / arm / seed / 'final.pt' for arm in arms)]
    if not all(path.is_file() for path in files):
        return False
    networks = [load_checkpoint(path) for path in files]
    pack = pack_of(plan, networks[0], plan.settings.test)
    sheet: list[AnyArray] = []
    for frame, row in drawn(pack, rows, 0.4):
        sheet.append(np.hstack([_cell(cloud(frame, row, network)) for network in networks]))
    if sheet:
        titles = [_title(name, sheet[0].shape[1] // len(files)) for name in ('teacher', *arms)]
        cv2.imwrite(str(target), np.vstack([np.hstack(titles), *sheet])[..., ::-1])
    return bool(sheet)


def _title(text: str, width: int) -> AnyArray:
    canvas = np.full((TITLE_HEIGHT, width, 3), 20, np.uint8)
    cv2.putText(canvas, text, (12, TITLE_HEIGHT - 11), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (230, 230, 230), 2, cv2.LINE_AA)
    return canvas


def _cell(found: Cloud) -> AnyArray:
    """One window with the corners that one network predicts in it."""
    border = int(MARGIN * len(found.window))
    canvas = cv2.copyMakeBorder(found.window, border, border, border, border, cv2.BORDER_CONSTANT, value=(40, 40, 40))
    canvas = cv2.resize(canvas, None, fx=ZOOM, fy=ZOOM, interpolation=cv2.INTER_CUBIC)
    canvas = np.ascontiguousarray(canvas // 2 + 20)
    for corner, colour in enumerate(COLOURS):
        for point in found.predicted[:, corner]:
            cv2.circle(canvas, _place(point, border), 4, colour, -1, cv2.LINE_AA)
        cv2.drawMarker(canvas, _place(found.truth[corner], border), (255, 255, 255), cv2.MARKER_CROSS, 14, 2)
    return canvas


def _place(point: AnyArray, border: int) -> tuple[int, int]:
    x, y = np.clip((np.asarray(point) + border + 0.5) * ZOOM - 0.5, -1e4, 1e4)
    return round(float(x)), round(float(y))
