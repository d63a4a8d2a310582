"""The clouds of corners that a run's network predicts on test objects: how wide they are, and how far from the truth.

The method aligns the student's clouds with the teacher's. Whether a better recall comes from tighter clouds or from
better placed ones is what these figures tell.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from kd6d_ros.inference.bundle_files import sha256_file
from kd6d_ros.inference.crop import Crop
from kd6d_ros.training.checkpoint import load_checkpoint
from kd6d_ros.training.study.markdown import table
from kd6d_ros.training.study.plan import TEACHER
from kd6d_ros.training.study.runs import pack_of, write_record
from kd6d_ros.training.validation import most_visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kd6d_ros.training.checkpoint import Checkpoint
    from kd6d_ros.training.frames import Frame, FramePack
    from kd6d_ros.training.study.plan import StudyPlan
    from kd6d_ros.types import AnyArray

OBJECTS = 200
"""Test objects that are looked at."""
FILE = 'clouds.json'


class Cloud(NamedTuple):
    """window (S, S, 3) uint8; predicted (K, 8, 2) and truth (8, 2) [px of the window]."""

    window: AnyArray
    predicted: AnyArray
    truth: AnyArray


class CloudFigures(NamedTuple):
    """Medians over objects, as shares of the longer side of the true corners' box: spread of a corner's predictions
    about their mean, and bias of that mean, both root mean squares over the 8 corners; scale_bias: by which share the
    means lie too far out or in, which moves the distance of the pose by the same share."""

    spread: float
    bias: float
    scale_bias: float


def drawn(pack: FramePack, count: int, least_visible: float) -> Iterator[tuple[Frame, int]]:
    """`count` frames, drawn with a fixed seed, with the annotation row of one object each; fewer if there are fewer."""
    found = 0
    for number in np.random.default_rng(0).permutation(len(pack)):
        if found == count:
            return
        frame = pack.frame(int(number), with_depth=False)
        best = most_visible(frame, least_visible)
        if best:
            found += 1
            yield frame, best[sorted(best)[found % len(best)]]


def cloud(frame: Frame, row: int, checkpoint: Checkpoint) -> Cloud:
    """The corners of the cells that decoding would hand to PnP, by score alone."""
    inputs = checkpoint.recipe.input
    crop = Crop.around_box(frame.visible_box[row], inputs.crop_padding, inputs.crop_size)
    window = crop.extract(frame.image)
    with torch.no_grad():
        output = checkpoint.network(torch.from_numpy(np.ascontiguousarray(window)).permute(2, 0, 1)[None])
    index = int(frame.class_index[row])
    count = min(checkpoint.recipe.assignment.cells_per_object, output.logits.shape[1])
    best = torch.topk(output.logits[0, :, index], count).indices
    return Cloud(window, output.keypoints[0, best, index].float().numpy(), crop.to_network(frame.corners_px[row]))


def figures(clouds: list[Cloud]) -> CloudFigures:
    """Of clouds of many objects."""
    rows = []
    for item in clouds:
        size = float((item.truth.max(0) - item.truth.min(0)).max())
        mean = item.predicted.mean(0)
        outward = item.truth - item.truth.mean(0)
        off = mean - item.truth
        scale = (off * outward).sum() / (outward**2).sum()
        spread = np.sqrt(((item.predicted - mean) ** 2).sum(-1).mean())
        rows.append((spread / size, np.sqrt((off**2).sum(-1).mean()) / size, abs(scale)))
    return CloudFigures(*(float(value) for value in np.median(rows, axis=0)))


def run_figures(plan: StudyPlan, key: str) -> CloudFigures | None:
    """Those of a finished run, kept beside it until its network is another one; None where there is neither."""
    folder = plan.folder / key
    path, network = folder / FILE, folder / 'final.pt'
    known = json.loads(path.read_text(encoding='utf-8')) if path.is_file() else {}
    of: dict[str, Any] = {'objects': OBJECTS}
    if network.is_file():
        of['network_sha256'] = sha256_file(network)
    elif known.get('objects') != OBJECTS:
        return None
    if of.items() <= known.items():
        return CloudFigures(*(float(known[name]) for name in CloudFigures._fields))
    found = measured(plan, load_checkpoint(network))
    write_record(path, {**of, **found._asdict()})
    return found


def measured(plan: StudyPlan, checkpoint: Checkpoint) -> CloudFigures:
    """Of a network on the study's test scenes."""
    targets = drawn(pack_of(plan, checkpoint, plan.settings.test), OBJECTS, plan.settings.min_visible)
    return figures([cloud(frame, row, checkpoint) for frame, row in targets])


def cloud_lines(plan: StudyPlan, student: str) -> list[str]:
    """The table of teacher and arms in Markdown, means over the seeds in percent of the object's size; nothing without
    figures, as for dense networks, which predict no corners."""
    if plan.kind == 'dense':
        return []
    by_arm = {TEACHER: [run_figures(plan, TEACHER)]}
    for arm in plan.arms:
        by_arm[arm] = [run_figures(plan, f'{student}/{arm}/{seed}') for seed in plan.seeds_of(student, arm)]
    rows = []
    for arm, found in by_arm.items():
        known = [item for item in found if item is not None]
        if known:
            cells = ' | '.join(f'{100 * value:.2f}' for value in np.mean(known, axis=0))
            rows.append(f'| {arm} | {len(known)} | {cells} |')
    if not rows:
        return []
    about = f'Clouds of corners on {OBJECTS} test objects, medians in percent of their sizes, mean over the runs:'
    return [about, '', *table(['arm', 'runs', 'spread', 'bias', 'bias of the scale'], rows)]
