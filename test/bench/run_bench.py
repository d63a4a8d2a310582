"""Speed figures of this machine: estimator, node and synth, as one table and one JSON file.

    python test/bench/run_bench.py [--out runs/bench] [--bundle demo] [--bag models/demo_bag]

Three parts, one after the other, each in processes of its own: `kd6d bench` (estimator on the bag), the real
node on the same bag over DDS (time besides the engine, memory, start-up), `kd6d synth` with two workers.
Exit code 1 when a limit is missed, 0 otherwise; a part that cannot run here says why.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any, Callable

from kd6d_ros.benchmark import live, machine
from kd6d_ros.benchmark.accuracy import make_judge
from kd6d_ros.benchmark.node_overhead import overhead_record
from kd6d_ros.benchmark.recording import TopicChoice, open_recording
from kd6d_ros.benchmark.report import write_text
from kd6d_ros.benchmark.synth_rate import SynthPlan, lmo_plan, measure
from kd6d_ros.cli.main import main as kd6d
from kd6d_ros.cli.output import format_table
from kd6d_ros.errors import Kd6dError
from kd6d_ros.inference.bundle import load_bundle
from kd6d_ros.inference.locate import find_bundle

ROOT = Path(__file__).resolve().parents[2]


def bench_estimator(options: argparse.Namespace) -> dict[str, Any]:
    """`kd6d bench` on the bag."""
    target = options.out / 'estimator.json'
    arguments = ['bench', '--bag', str(options.bag), '--bundle', options.bundle]
    shutil.rmtree(options.out / 'estimator', ignore_errors=True)  # of the last run: kd6d bench keeps what is there
    if kd6d([*arguments, '--out', str(options.out / 'estimator'), '--json', str(target)]) != 0:
        return {'skipped': 'kd6d bench failed, see above'}
    record: dict[str, Any] = json.loads(target.read_text(encoding='utf-8'))['rows'][0]
    return record


def bench_node(options: argparse.Namespace) -> dict[str, Any]:
    """The node on the bag over DDS."""
    bundle = load_bundle(find_bundle(options.bundle))
    recording = open_recording(options.bag, TopicChoice(), bundle.names)
    plan = live.plan_of(bundle, recording, options.out / 'node_logs')
    result = live.run_live(plan, recording, make_judge(bundle, recording), print)
    return {**overhead_record(result.log), 'live': result.record()}


def bench_synth(options: argparse.Namespace) -> dict[str, Any]:
    """`kd6d synth` on the recipe of models/lmo, or on the demo object where the LM-O meshes are missing."""
    shared = Path(os.environ.get('KD6D_DATA') or ROOT.parent / 'shared' / 'data')
    plan = lmo_plan(shared, ROOT)
    if plan is None:
        from kd6d_ros.data.demo_object import write_demo_object

        models = options.out / 'demo_object'
        write_demo_object(models)
        plan = SynthPlan(models, ROOT / 'config' / 'synth_demo.yaml')
    return measure(plan)


PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    'estimator': bench_estimator,
    'node': bench_node,
    'synth': bench_synth,
}


def run_part(part: str, options: argparse.Namespace) -> dict[str, Any]:
    """One part; what it cannot do here becomes its only entry."""
    try:
        return PARTS[part](options)
    except Kd6dError as error:
        return {'skipped': str(error)}


def table_rows(record: dict[str, Any]) -> list[tuple[Any, ...]]:
    """(what, value, limit) rows."""
    rows: list[tuple[Any, ...]] = []
    for part in PARTS:
        found = record.get(part, {'skipped': 'not asked for'})
        if 'skipped' in found:
            rows.append((f'{part}: {found["skipped"]}', None, None))
    if 'add_recall' in record.get('estimator', {}):
        estimator = record['estimator']
        overhead = estimator['tracked_overhead_ms'] or {}
        rows += [
            ('ADD recall at 0.1 d, every image', estimator['add_recall'], None),
            ('estimate() p50 [ms]', (estimator['latency_ms'] or {}).get('p50'), None),
            ('estimate() besides the engine, tracked, p50 [ms]', overhead.get('p50'), None),
        ]
    if 'limits' in record.get('node', {}):
        node, limits = record['node'], record['node']['limits']
        rows += [
            (
                'node: decoded to published besides the engine, p50 [ms]',
                node['overhead_p50_ms'],
                f'< {limits["overhead_p50_ms"]:g}',
            ),
            ('node: the same, p95 [ms]', node['overhead_p95_ms'], None),
            ('node: resident memory [MB]', node['memory_mb'], f'< {limits["memory_mb"]:g}'),
            ('node: start to active [s]', node['start_to_active_s'], f'< {limits["start_to_active_s"]:g}'),
            ('node: torch loaded', {True: 'yes', False: 'no', None: None}[node['torch_loaded']], 'no'),
        ]
    if 'images_per_s' in record.get('synth', {}):
        synth = record['synth']
        name = f'synth: images/s, {synth["workers"]} workers, {synth["models"]} with {synth["recipe"]}'
        rows.append((name, synth['images_per_s'], f'>= {synth["limit"]:g}'))
    return rows


def main() -> int:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(description='Speed figures of this machine.')
    parser.add_argument('--out', type=Path, default=Path('runs/bench'), help='reports and bench.json go here')
    parser.add_argument('--bundle', default='demo', help='bundle folder or installed name')
    parser.add_argument('--bag', type=Path, default=ROOT / 'models' / 'demo_bag', help='bag with ground truth')
    parser.add_argument('--only', nargs='+', choices=list(PARTS), default=list(PARTS), help='parts to run')
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    record: dict[str, Any] = {'machine': machine.machine_record()}
    for part in options.only:
        record[part] = run_part(part, options)
    write_text(options.out / 'bench.json', json.dumps(record, indent=2) + '\n')
    made_on = record['machine']
    print(f'\n{made_on["processor"]}, {made_on["cores"]} cores, load {made_on["load_before"]}', end='')
    print(f', commit {made_on["commit"]}\n')
    print(format_table(('figure', 'value', 'limit'), table_rows(record)))
    print(f'\n{options.out / "bench.json"}')
    missed = [part for part in options.only if record[part].get('within_limits') is False]
    if missed:
        print(f'limits missed: {", ".join(missed)}', file=sys.stderr)
    return 1 if missed else 0


if __name__ == '__main__':
    sys.exit(main())
