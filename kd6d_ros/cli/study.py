"""`kd6d study STUDY.yaml`: experiments over students, seeds and distillation terms, with a table."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kd6d_ros.training.recipe import Recipe
    from kd6d_ros.training.study.plan import StudyPlan

EXAMPLE = """example:
  kd6d study config/study_cpu.yaml --workers 2
  kd6d study config/study_cpu.yaml --report --runs docs/studies/study_cpu       # the runs of docs/results.md
  kd6d study config/study_dense_cpu.yaml --workers 2

The study goes on where it was stopped. It writes report.md, report.json, curves.png and, of keypoint networks,
clouds_<student>.png into runs/<name>. Recall is that of ADD(-S) at a tenth of the diameter."""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        'study',
        help='compare distillation terms over seeds and students',
        description='Train a teacher, plain students and distilled ones at equal budget, measure them on held-out '
        'scenes, and write a table with paired differences and their intervals.',
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('study', type=Path, help='YAML study, e.g. config/study_cpu.yaml')
    parser.add_argument('--workers', type=int, default=1, metavar='N', help='runs at a time (default 1)')
    parser.add_argument('--only', metavar='KEY', help='do this run only, e.g. teacher or tiny_h/adlp/1')
    parser.add_argument('--report', action='store_true', help='write the report of what is finished, run nothing')
    parser.add_argument('--runs', type=Path, metavar='DIR', help="where the runs are (default: the study's own folder)")
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace) -> int:
    from kd6d_ros.errors import ConfigError
    from kd6d_ros.training.study.plan import load_plan

    plan = load_plan(args.study)
    if args.runs is not None:
        plan = replace(plan, settings=replace(plan.settings, out=str(args.runs)))
    if args.workers < 1:
        raise ConfigError(f'--workers must be at least 1, got {args.workers}')
    if args.only is not None:
        return _one(plan, args.only)
    if not args.report:
        _check_data(plan)
        from kd6d_ros.training.study.runs import run_study

        run_study(plan, args.workers)
    _write_report(plan)
    return 0


def _one(plan: StudyPlan, key: str) -> int:
    from kd6d_ros.errors import ConfigError
    from kd6d_ros.training.study.runs import do_run

    jobs = {job.key: job for job in plan.jobs()}
    if key not in jobs:
        raise ConfigError(f'--only {key}: no such run; the first are {", ".join(list(jobs)[:5])}')
    record = do_run(plan, jobs[key])
    print(f'{key}: recall {100 * record["test_recall"]:.1f} % of {record["test_instances"]} objects')
    return 0


def _check_data(plan: StudyPlan) -> None:
    """All data sets exist, and no two of training, validation and test are the same."""
    from kd6d_ros.cli.before_training import check_before
    from kd6d_ros.data.bop import BopDataset
    from kd6d_ros.errors import ConfigError

    recipe = plan.recipe(plan.jobs()[-1])
    check_before(recipe)
    if plan.kind == 'dense':
        _check_codes(recipe)
    folders = [Path(recipe.data.train), Path(plan.settings.validation), Path(plan.settings.test)]
    for folder in folders[1:]:
        BopDataset.open(folder).split(plan.settings.split)
    if folders[2].resolve() in {folder.resolve() for folder in folders[:2]}:
        raise ConfigError(f'{plan.path}: test is {folders[2]}, which is also trained or chosen on; render another set')


def _check_codes(recipe: Recipe) -> None:
    from kd6d_ros.data.code_maps import load_books
    from kd6d_ros.training.data_module import recipe_objects

    load_books(Path(recipe.data.codes), recipe_objects(recipe))


def _write_report(plan: StudyPlan) -> None:
    import json

    from kd6d_ros.training.study.pictures import cloud_picture
    from kd6d_ros.training.study.report import curves, report_record, report_text

    plan.folder.mkdir(parents=True, exist_ok=True)
    text = report_text(plan)
    (plan.folder / 'report.md').write_text(text, encoding='utf-8')
    (plan.folder / 'report.json').write_text(json.dumps(report_record(plan), indent=1), encoding='utf-8')
    curves(plan, plan.folder / 'curves.png')
    if plan.compare and plan.kind == 'keypoints':
        better, plain = plan.compare[0]
        for student in plan.students:
            cloud_picture(plan, student, (plain, better), plan.folder / f'clouds_{student}.png')
    print(text)
    print(f'wrote {plan.folder / "report.md"}')
