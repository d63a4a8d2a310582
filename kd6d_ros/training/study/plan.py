"""What a STUDY.yaml says: one base recipe, a teacher, students, arms and seeds; every run is the base with changes.

No torch here, so that a wrong file is refused before the first costly second.
"""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kd6d_ros.errors import ConfigError
from kd6d_ros.strict_yaml import from_mapping, read_mapping
from kd6d_ros.training.recipe import load_recipe

if TYPE_CHECKING:
    from kd6d_ros.training.recipe import Recipe

Changes = dict[str, Any]
TEACHER = 'teacher'
DENSE_THRESHOLD = 0.5
"""Mask probability from which on a pixel of a dense network is decoded: that of ``surface.LEAST_MASK_LOGIT``."""
GROUPS = ('common', 'teacher', 'students', 'arms', 'seeds', 'arm_seeds', 'compare')


@dataclass(frozen=True)
class StudySettings:
    """name, out: where the runs go (default runs/<name>). recipe: base recipe, relative to the study's file.
    validation, test: BOP folders of held-out scenes; split: their split. validation_instances, test_instances: how many
    objects at least `min_visible` visible are looked at. thresholds: least cell scores to choose from on validation;
    default_threshold: the one that every run is measured at besides. photos: BOP folder with real photos of the same
    objects, only measured; photo_split: their split; photo_detections: boxes in them, see `kd6d estimate`.

    Dense networks have no threshold to choose: a pixel counts where the object is likelier than not."""

    name: str = 'study'
    out: str = ''
    recipe: str = ''
    validation: str = ''
    test: str = ''
    split: str = 'train'
    validation_instances: int = 500
    test_instances: int = 2000
    min_visible: float = 0.15
    thresholds: tuple[float, ...] = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
    default_threshold: float = 0.1
    photos: str = ''
    photo_split: str = 'test'
    photo_detections: str = ''


@dataclass(frozen=True)
class Job:
    """One run. key: 'teacher' or 'student/arm/seed'; changes: dotted recipe keys and values."""

    key: str
    changes: Changes


@dataclass(frozen=True)
class StudyPlan:
    """A checked study. common: changes of every run; students, arms: name to changes; seeds: student to the seeds of
    its arms, arm_seeds: student to arm to other seeds than those, or to none; compare: pairs of arms."""

    path: Path
    settings: StudySettings
    common: Changes
    teacher: Changes
    students: dict[str, Changes]
    arms: dict[str, Changes]
    seeds: dict[str, tuple[int, ...]]
    arm_seeds: dict[str, dict[str, tuple[int, ...]]]
    compare: tuple[tuple[str, str], ...]

    @cached_property
    def kind(self) -> str:
        """That of all its networks."""
        return self.recipe(self.jobs()[0]).network.kind

    @property
    def thresholds(self) -> tuple[float, ...]:
        """To choose from on validation."""
        return (DENSE_THRESHOLD,) if self.kind == 'dense' else self.settings.thresholds

    def measured_at(self, own: float) -> tuple[float, ...]:
        """Thresholds that a run is measured at, the one chosen for it last."""
        return (own,) if self.kind == 'dense' else (self.settings.default_threshold, own)

    @property
    def folder(self) -> Path:
        return Path(self.settings.out or f'runs/{self.settings.name}')

    def jobs(self) -> list[Job]:
        """The teacher, if it has to be trained, then the students: one seed of every arm before the next seed."""
        found = [Job(TEACHER, self.teacher)] if self.teacher else []
        for student, changes in self.students.items():
            of_arms = {arm: self.seeds_of(student, arm) for arm in self.arms}
            for seed in dict.fromkeys(seed for seeds in of_arms.values() for seed in seeds):
                for arm, more in self.arms.items():
                    if seed in of_arms[arm]:
                        found.append(Job(f'{student}/{arm}/{seed}', {**changes, **more, 'seed': seed}))
        return found

    def seeds_of(self, student: str, arm: str) -> tuple[int, ...]:
        """Those of its runs."""
        return self.arm_seeds.get(student, {}).get(arm, self.seeds[student])

    def recipe(self, job: Job) -> Recipe:
        """The recipe of a run.

        Raises:
            ConfigError: a change that the recipe does not know, or a value that it does not take.
        """
        changes = {**self.common, **job.changes}
        changes.update(name=job.key.replace('/', '_'), out=str(self.folder / job.key))
        if job.key != TEACHER and self.teacher:
            changes['distillation.teacher'] = str(self.folder / TEACHER / 'final.pt')
        base = self.path.parent / self.settings.recipe
        recipe = load_recipe(base, [f'{key}={json.dumps(value)}' for key, value in changes.items()])
        if not recipe.distillation.used:  # so that a plain run does not name a teacher that it never saw
            recipe = replace(recipe, distillation=type(recipe.distillation)())
        return recipe


def load_plan(path: Path) -> StudyPlan:
    """Read and check a study.

    Raises:
        ConfigError: unreadable YAML, unknown key, unknown arm or student, a change that no recipe takes.
    """
    raw = read_mapping(path)
    groups = {name: raw.pop(name, {}) for name in GROUPS}
    for key in raw:
        near = difflib.get_close_matches(key, GROUPS, 1, 0.6)
        if near and key not in StudySettings.__dataclass_fields__:
            raise ConfigError(f"{path}: unknown setting '{key}'; did you mean '{near[0]}'?")
    settings = from_mapping(StudySettings, raw, str(path))
    _check_settings(settings, path)
    students, arms = (_named(groups[name], name, path) for name in ('students', 'arms'))
    plan = StudyPlan(
        path, settings, _changes(groups['common'], 'common', path), _changes(groups['teacher'], 'teacher', path),
        students, arms,
        _seeds(groups['seeds'], students, path), _arm_seeds(groups['arm_seeds'], students, arms, path),
        _pairs(groups['compare'], arms, path),
    )  # fmt: skip
    _check_kinds(plan, [_checked_recipe(plan, job).network.kind for job in plan.jobs()])
    return plan


def _checked_recipe(plan: StudyPlan, job: Job) -> Recipe:
    try:
        return plan.recipe(job)
    except ConfigError as error:
        raise ConfigError(f'{plan.path}: run {job.key}: {error}') from None


def _check_kinds(plan: StudyPlan, kinds: list[str]) -> None:
    """kinds: network.kind of every run."""
    for job, kind in zip(plan.jobs(), kinds, strict=True):
        if kind != kinds[0]:
            raise ConfigError(
                f'{plan.path}: run {job.key} has network.kind: {kind}, the first run network.kind: {kinds[0]}; a study '
                'compares networks of one kind'
            )
    for name in ('thresholds', 'default_threshold'):
        if kinds[0] == 'dense' and getattr(plan.settings, name) != getattr(StudySettings(), name):
            raise ConfigError(
                f'{plan.path}: {name} belongs to network.kind: keypoints, but this study has network.kind: dense; '
                'leave it out'
            )


def _check_settings(settings: StudySettings, path: Path) -> None:
    for name in ('recipe', 'validation', 'test'):
        if not getattr(settings, name):
            raise ConfigError(f'{path}: {name} is missing')
    if settings.validation_instances < 1 or settings.test_instances < 1:
        raise ConfigError(f'{path}: validation_instances and test_instances must be positive')
    if bool(settings.photos) != bool(settings.photo_detections):
        raise ConfigError(f'{path}: photos and photo_detections belong together')
    if not all(0 <= value < 1 for value in (*settings.thresholds, settings.default_threshold)):
        raise ConfigError(f'{path}: thresholds must lie between 0 and 1')


def _changes(content: Any, where: str, path: Path) -> Changes:
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ConfigError(f'{path}: {where} must be a mapping of recipe settings, e.g. train.steps: 2000')
    return dict(content)


def _named(content: Any, where: str, path: Path) -> dict[str, Changes]:
    if not isinstance(content, dict) or not content:
        raise ConfigError(f'{path}: {where} must name at least one, each with its recipe settings')
    for name in content:
        if not isinstance(name, str) or not name.replace('_', '').replace('-', '').isalnum():
            raise ConfigError(f'{path}: {where}: {name!r} is no name; use letters, digits, _ and -')
    return {name: _changes(changes, f'{where}.{name}', path) for name, changes in content.items()}


def _seeds(content: Any, students: dict[str, Changes], path: Path) -> dict[str, tuple[int, ...]]:
    """Seeds of every student, from one list for all or from one list for each."""
    given = content if isinstance(content, dict) else dict.fromkeys(students, content)
    if set(given) != set(students):
        raise ConfigError(f'{path}: seeds must be a list, or a list for each of {", ".join(students)}')
    for seeds in given.values():
        if not _are_seeds(seeds) or not seeds:
            raise ConfigError(f'{path}: seeds must be different whole numbers, e.g. [1, 2, 3]')
    return {name: tuple(given[name]) for name in students}


def _arm_seeds(
    content: Any, students: dict[str, Changes], arms: dict[str, Changes], path: Path
) -> dict[str, dict[str, tuple[int, ...]]]:
    """Arms with other seeds than their student's, or with none."""
    given = content or {}
    if not isinstance(given, dict) or not all(isinstance(of_arm, dict) for of_arm in given.values()):
        raise ConfigError(f'{path}: arm_seeds must be lists by student and arm, e.g. small: {{plain: [1, 2]}}')
    for student, of_arm in given.items():
        for arm, seeds in of_arm.items():
            if student not in students or arm not in arms:
                raise ConfigError(f'{path}: arm_seeds: there is no arm {arm!r} of a student {student!r}')
            if not _are_seeds(seeds):
                raise ConfigError(f'{path}: arm_seeds: {student}: {arm} must be different whole numbers, or []')
    return {student: {arm: tuple(seeds) for arm, seeds in of_arm.items()} for student, of_arm in given.items()}


def _are_seeds(value: Any) -> bool:
    """A list of different whole numbers, maybe none."""
    whole = isinstance(value, list) and all(isinstance(s, int) and not isinstance(s, bool) and s >= 0 for s in value)
    return whole and len(set(value)) == len(value)


def _pairs(content: Any, arms: dict[str, Changes], path: Path) -> tuple[tuple[str, str], ...]:
    pairs = content or []
    for pair in pairs if isinstance(pairs, list) else [None]:
        if not isinstance(pair, list) or len(pair) != 2 or not all(name in arms for name in pair):
            raise ConfigError(f'{path}: compare must be pairs of arms, e.g. [[adlp, plain]]; known: {", ".join(arms)}')
    return tuple((first, second) for first, second in pairs)
