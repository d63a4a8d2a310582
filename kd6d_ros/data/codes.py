"""Make the surface codes of an object: draw surface points, halve them 16 times, keep the centre of every leaf.

Each split is balanced 2-means: of all ways to cut a set of points into equal halves, one whose halves are compact. For
halves of equal size that is a cut by a plane, so the iteration only turns the plane: from the direction in which the
points spread most, to the line between the centres of the halves. Bit 1 is always the side towards which that
direction has its largest component positive, so that neighbouring regions use their bits alike.

Symmetric objects: codes name points, one to one, whatever the symmetry; it is the pose whose code map is learnt that is
canonical (``geometry.symmetries.canonical_pose``). One image then has one code map for discrete and continuous
symmetries alike, and decoded points fit a pose without further choice.

Reference: Su et al., "ZebraPose", CVPR 2022, which groups vertices; samples that are uniform by area do not depend on
how finely a mesh is tessellated.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kd6d_ros.errors import ConfigError, MeshError
from kd6d_ros.geometry.meshes import surface_points
from kd6d_ros.inference.surface_codes import BITS, LEAVES, CodeBook

if TYPE_CHECKING:
    from kd6d_ros.types import AnyArray, FloatArray, Mesh, ObjectModel

TURNS = 6
"""Most iterations of balanced 2-means per split; 0 cuts across the principal axis."""

SETTLED = 1e-3
"""The plane of a split is settled when its normal turns by less than this [rad]."""

PAIRS = 20_000
"""Pairs of samples that a mean distance is taken over."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Surface points (65536, n, 3) [m]: row c holds the n points of the leaf with code c. order (65536 * n,): where
    each of them stood among the points that were drawn."""

    points: FloatArray
    order: AnyArray


def mesh_hash(mesh: Mesh) -> str:
    """sha256 of a mesh's shape: vertices as float32 [m] and faces; colours do not count."""
    digest = hashlib.sha256(np.ascontiguousarray(mesh.vertices, '<f4').tobytes())
    digest.update(np.ascontiguousarray(mesh.faces, '<i8').tobytes())
    return digest.hexdigest()


def make_codes(model: ObjectModel, per_leaf: int = 4, seed: int = 0) -> tuple[CodeBook, Samples]:
    """Codes of an object from `per_leaf` times 65536 points of its surface, the same for the same seed.

    Raises:
        ConfigError: per_leaf outside 1..64. MeshError: no mesh, or one without area.
    """
    if not 1 <= per_leaf <= 64:
        raise ConfigError(f'samples per leaf: {per_leaf} is outside 1..64')
    if model.mesh is None:
        raise MeshError(f'{model.name}: surface codes need its mesh; the models folder describes it without one')
    drawn = surface_points(model.mesh, per_leaf * LEAVES, np.random.default_rng(seed))
    samples = split_samples(drawn)
    centres = samples.points.mean(1)
    low = centres.min(0)
    step = (centres.max(0) - low) / np.iinfo(np.uint16).max
    grid = np.rint((centres - low) / np.where(step > 0, step, 1.0)).astype(np.uint16)
    book = CodeBook(model.name, model.obj_id, model.diameter, low, step, grid, mesh_hash(model.mesh), len(drawn), seed)
    return book, samples


def split_samples(points: FloatArray, turns: int = TURNS) -> Samples:
    """Halve points (65536 n, 3) along the tree; both halves of every split have the same size.

    Raises:
        ConfigError: not a multiple of 65536 points.
    """
    if len(points) == 0 or len(points) % LEAVES:
        raise ConfigError(f'surface codes need a multiple of {LEAVES} points, got {len(points)}')
    order = np.arange(len(points))
    for level in range(BITS):
        groups = points[order].reshape(1 << level, -1, 3)
        along = _cuts(groups - groups.mean(1, keepdims=True), turns)
        order = np.take_along_axis(order.reshape(1 << level, -1), along, axis=1).ravel()
    return Samples(points[order].reshape(LEAVES, -1, 3), order)


def _cuts(groups: FloatArray, turns: int) -> AnyArray:
    """For centred groups (G, m, 3) the order (G, m) of their points along the normal of their cut."""
    half = groups.shape[1] // 2
    spread = np.einsum('gni,gnj->gij', groups, groups)
    normal = np.linalg.eigh(spread)[1][:, :, 2]
    for _ in range(turns):
        upper = np.argpartition(np.einsum('gni,gi->gn', groups, normal), half, axis=1)[:, half:]
        # The groups are centred, so the centre of the upper half points from one centre to the other.
        centre = np.take_along_axis(groups, upper[:, :, None], axis=1).mean(1)
        length = np.linalg.norm(centre, axis=1, keepdims=True)
        turned = np.where(length > 0, centre / np.where(length > 0, length, 1.0), normal)
        still = np.abs(turned - normal).max() < SETTLED
        normal = turned
        if still:
            break
    largest = np.take_along_axis(normal, np.abs(normal).argmax(1)[:, None], axis=1)
    normal = np.where(largest < 0, -normal, normal)
    return np.argsort(np.einsum('gni,gi->gn', groups, normal), axis=1, kind='stable')


def leaf_radii(samples: Samples) -> FloatArray:
    """Distance (65536,) [m] from the centre of each leaf to its farthest sample."""
    apart = samples.points - samples.points.mean(1, keepdims=True)
    out: FloatArray = np.sqrt((apart**2).sum(2)).max(1)
    return out


def distance_by_prefix(samples: Samples, seed: int = 0) -> list[float]:
    """Mean distance [m] of two samples whose codes share exactly 0, 1 ... 15 leading bits, and 16 (the same leaf)."""
    rng = np.random.default_rng(seed)
    flat = samples.points.reshape(-1, 3)
    out = []
    for shared in range(BITS + 1):
        groups = 1 << shared
        size = len(flat) // groups
        group = rng.integers(groups, size=PAIRS) * size
        if shared < BITS:
            first, second = rng.integers(size // 2, size=PAIRS), size // 2 + rng.integers(size // 2, size=PAIRS)
        else:
            first, second = rng.integers(size, size=(2, PAIRS))
        out.append(float(np.linalg.norm(flat[group + first] - flat[group + second], axis=1).mean()))
    return out
