"""What a recipe says about distillation, as plain data (no torch)."""

from __future__ import annotations

from dataclasses import dataclass, field

from kd6d_ros.errors import ConfigError

COORDINATES = ('frame', 'object')
STUDENT_CELLS = ('positives', 'best')


@dataclass(frozen=True)
class AdlpSettings:
    """Optimal transport between the clouds of student and teacher, corner by corner, or between their clouds of codes.

    weight: of the term, 0 switches it off. coordinates: 'frame', corners over the frame's width and height, or
    'object', over the object's size in the window (codes have a scale of their own). geometry and mass: factors of the
    gradient with respect to the corners or codes and to the scores or masks; mass 0 is a student whose scores are
    detached. student_cells: 'positives', the cells drawn for training as released, or 'best', those that decoding would
    choose (our own form). every, dense networks only: one cell of so many in both directions, others in each step,
    which costs less than coarser cells and says more; place: cells have their place in the window as two further
    coordinates, its width as long as this many times the longest distance of two codes (our own form). blur, reach,
    scaling, converge, power: see ``SinkhornSettings``; the paper writes a distance (power 1), its code has power 2. The
    released code has weight 5 for a mean over images, beside sums over positive cells; ours are means over positive
    cells, so with its 16 images of 10 cells that weight is 5 / 160 here.
    """

    weight: float = 0.0
    coordinates: str = 'object'
    geometry: float = 1.0
    mass: float = 1.0
    student_cells: str = 'positives'
    every: int = 1
    place: float = 0.0
    blur: float = 0.001
    reach: float = 0.5
    scaling: float = 0.5
    converge: int = 0
    power: int = 2


@dataclass(frozen=True)
class NaiveSettings:
    """Cell by cell: weight of the corner error [object sizes] against the teacher's corners in the positive cells
    that the teacher believes in; mass: factor of the cross-entropy against the teacher's scores there. Of a dense
    network: of the cross-entropy against the teacher's bits where it sees the object, and against its masks."""

    weight: float = 0.0
    mass: float = 1.0


@dataclass(frozen=True)
class FeatureSettings:
    """Feature maps of the pyramid, or those of a dense decoder of the strides that both networks have. weight: of all
    three parts; attended: difference of the maps where both networks look; attention: of the pooled maps; relation: of
    the non-local relations; temperature: of the attention. The defaults are the paper's for one-stage detectors."""

    weight: float = 0.0
    attended: float = 4e-4
    attention: float = 2e-2
    relation: float = 4e-4
    temperature: float = 0.5


@dataclass(frozen=True)
class SurfaceSettings:
    """The surface branch, cell by cell: weight of the points' error [diameters] against the teacher's points where it
    sees the object; mask: factor of the cross-entropy against its mask."""

    weight: float = 0.0
    mask: float = 0.5


@dataclass(frozen=True)
class DistillationSettings:
    """teacher: checkpoint of `kd6d train`. threshold, cells, sharpness: which cells of the teacher make its cloud:
    those above the threshold, the best of each level up to its share of `cells`. within_mask: only cells on the
    instance itself (the released code sees one object per image and does not ask). pooling, dense networks only: a cell
    is a square of so many pixels of the student's map in both directions."""

    teacher: str = ''
    threshold: float = 0.1
    cells: int = 10
    sharpness: float = 1.0
    within_mask: bool = True
    pooling: int = 2
    adlp: AdlpSettings = field(default_factory=AdlpSettings)
    naive: NaiveSettings = field(default_factory=NaiveSettings)
    feature: FeatureSettings = field(default_factory=FeatureSettings)
    surface: SurfaceSettings = field(default_factory=SurfaceSettings)

    @property
    def used(self) -> bool:
        """Whether any term has a weight."""
        return max(self.adlp.weight, self.naive.weight, self.feature.weight, self.surface.weight) > 0

    def check(self, where: str) -> None:
        """Raises ConfigError naming the value that cannot be meant."""
        if self.adlp.coordinates not in COORDINATES:
            raise ConfigError(
                f'{where}: distillation.adlp.coordinates must be one of {", ".join(COORDINATES)}, '
                f'got {self.adlp.coordinates!r}'
            )
        if self.adlp.student_cells not in STUDENT_CELLS:
            raise ConfigError(
                f'{where}: distillation.adlp.student_cells must be one of {", ".join(STUDENT_CELLS)}, '
                f'got {self.adlp.student_cells!r}'
            )
        if self.adlp.power not in (1, 2):
            raise ConfigError(f'{where}: distillation.adlp.power must be 1 or 2, got {self.adlp.power}')
        not_negative = {
            'adlp.weight': self.adlp.weight, 'adlp.geometry': self.adlp.geometry, 'adlp.mass': self.adlp.mass,
            'adlp.converge': self.adlp.converge, 'adlp.place': self.adlp.place,
            'naive.weight': self.naive.weight, 'naive.mass': self.naive.mass,
            'feature.weight': self.feature.weight, 'feature.attended': self.feature.attended,
            'feature.attention': self.feature.attention, 'feature.relation': self.feature.relation,
            'surface.weight': self.surface.weight, 'surface.mask': self.surface.mask,
        }  # fmt: skip
        positive = {
            'cells': self.cells, 'sharpness': self.sharpness, 'pooling': self.pooling, 'adlp.every': self.adlp.every,
            'feature.temperature': self.feature.temperature,
            'adlp.blur': self.adlp.blur, 'adlp.reach': self.adlp.reach,
        }  # fmt: skip
        for name, value in not_negative.items():
            if value < 0:
                raise ConfigError(f'{where}: distillation.{name} must not be negative, got {value}')
        for name, value in positive.items():
            if value <= 0:
                raise ConfigError(f'{where}: distillation.{name} must be positive, got {value}')
        if not 0 <= self.threshold < 1 or not 0 < self.adlp.scaling < 1:
            raise ConfigError(f'{where}: distillation.threshold and adlp.scaling must lie between 0 and 1')
        if self.used and not self.teacher:
            raise ConfigError(f'{where}: distillation.teacher is missing: a final.pt that `kd6d train` wrote')
