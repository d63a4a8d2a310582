"""The demo bag over and over to the real node: memory, the books of its images, services, age of the poses.

    python test/bench/long_run.py [--minutes 10] [--rate 30] [--out runs/long] [--json FILE]

Player, recorder and node are processes of their own over DDS on this host, and another one asks the node for
parameters, its state and poses all the time. The player moves the stamps to the wall clock by one constant. Exit code 1
when a line of the table does not hold.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path
from typing import Any

from long_figures import Watch, rows

from kd6d_ros.benchmark.accuracy import make_judge
from kd6d_ros.benchmark.machine import machine_record
from kd6d_ros.benchmark.recording import TopicChoice, open_recording
from kd6d_ros.benchmark.report import write_text
from kd6d_ros.benchmark.session import SENT, SessionPlan, read_json_lines, run_session
from kd6d_ros.cli.output import format_table
from kd6d_ros.errors import BagError, Kd6dError
from kd6d_ros.inference.bundle import load_bundle
from kd6d_ros.ros.diagnostics import kind_of

ROOT = Path(__file__).resolve().parents[2]
ASKED = 'asked.jsonl'


def long_run(
    seconds: float, rate_hz: float, out: Path, bundle: Path, bag: Path, precision: str = 'auto'
) -> dict[str, Any]:
    """One run; figures and verdict as plain values.

    Raises:
        BagError: the run broke down.
    """
    loaded = load_bundle(bundle)
    recording = open_recording(bag, TopicChoice(), loaded.names)
    judge = make_judge(loaded, recording)
    if not judge.vertices or recording.rate_hz is None:
        raise BagError(f'{bag}: {judge.reason or "one image has no rate"}')
    asked = out / ASKED
    caller = (sys.executable, str(ROOT / 'test' / 'bench' / 'service_calls.py'), '--log', str(asked))
    plan = SessionPlan(
        bundle=bundle,
        bag=bag,
        topics=recording.topics,
        logs=out,
        rate=rate_hz / recording.rate_hz,
        profile=ROOT / 'config' / 'fastdds_localhost.xml',
        longest_s=seconds + 120,
        duration_s=seconds,
        parameters={'precision': precision},
        helper=(*caller, '--object', min(judge.vertices)),
    )
    watch = Watch()
    machine = machine_record()
    log = run_session(plan, print, watch.look)
    sent = read_json_lines(out / SENT)
    table = rows(log, sent, read_json_lines(asked), watch, recording, judge.scorers())
    told = [row['message'] for row in log.events if row['kind'] == 'diagnostics' and row['level']]
    problems = {kind_of(text): text for text in told}
    return {
        'seconds': seconds,
        'rate_hz': rate_hz,
        'precision': precision,
        'lines': [
            {'what': what, 'value': value, 'limit': limit, 'holds': holds} for what, value, limit, holds in table
        ],
        'holds': all(row[-1] for row in table),
        'memory_mb': [round(value, 2) for value in watch.memory],
        'problems': sorted(problems.values()),
        'machine': machine,
    }


def main() -> int:
    """Run, print the table, judge."""
    parser = argparse.ArgumentParser(description='The demo bag over and over to the real node.')
    parser.add_argument('--minutes', type=float, default=10.0)
    parser.add_argument('--rate', type=float, default=30.0, help='images per second')
    parser.add_argument('--out', type=Path, default=Path('runs/long'), help='folder of the logs')
    parser.add_argument('--bundle', type=Path, default=ROOT / 'models' / 'demo')
    parser.add_argument('--precision', default='auto', help="one of the bundle's precisions, or auto")
    parser.add_argument('--bag', type=Path, default=ROOT / 'models' / 'demo_bag', help='with ground truth')
    parser.add_argument('--json', type=Path, default=None, metavar='FILE', help='the result as one JSON object')
    options = parser.parse_args()
    # The other processes must end with this program, however that ends.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        record = long_run(
            60 * options.minutes, options.rate, options.out, options.bundle, options.bag, options.precision
        )
    except Kd6dError as error:
        print(f'long_run: {error}', file=sys.stderr)
        return 2
    lines = [(row['what'], row['value'], row['limit'], 'yes' if row['holds'] else 'NO') for row in record['lines']]
    made_on = record['machine']
    print(f'\n{made_on["processor"]}, {made_on["cores"]} cores, load {made_on["load_before"]}', end='')
    print(f', commit {made_on["commit"]}\n')
    print(format_table(('', 'value', 'must be', 'holds'), lines))
    for text in record['problems']:
        print(f'diagnostics: {text}', file=sys.stderr)
    if options.json is not None:
        write_text(options.json, json.dumps(record, indent=2) + '\n')
    return 0 if record['holds'] else 1


if __name__ == '__main__':
    sys.exit(main())
