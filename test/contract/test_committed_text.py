"""What is committed is ours to give away: no paths of one machine, no registry hosts, no large files, a licence."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MEGABYTE = 1 << 20

# Written so that this file does not match itself.
HOSTS = ('pypi.org', 'pythonhosted.org', 'pytorch.org/whl', 'artifactory', 'nexus.', 'conda.anaconda')
FORBIDDEN = {
    'a path of one machine': re.compile(
        r'(?<![\w.])/(?:home/[a-z]|root/|Users/[a-z]|work/(?:main|shared)|tmp/[a-z0-9_]+/|opt/(?:wheels|pypi))'
    ),
    'a package registry or mirror host': re.compile('|'.join(map(re.escape, HOSTS)) + r'|-index-url[ =]https?:'),
    'a credential': re.compile(r'\b(?:ghp|hf|pypi)_[A-Za-z0-9]{20,}|AKIA[A-Z0-9]{16}|BEGIN [A-Z ]*PRIVATE KEY'),
}
BINARY = {'.onnx', '.npz', '.png', '.jpg', '.mcap', '.ply', '.gif', '.db3'}


def committed() -> list[Path]:
    result = subprocess.run(['git', 'ls-files', '-z'], cwd=ROOT, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        pytest.skip('not a git checkout: nothing is committed here')
    files = [ROOT / name for name in result.stdout.split('\0') if name]
    return [path for path in files if path.is_file()]


@pytest.mark.parametrize('what', FORBIDDEN)
def test_committed_text_is_free_of(what: str) -> None:
    hits = []
    for path in committed():
        if path.suffix in BINARY or path == Path(__file__).resolve():
            continue
        for number, line in enumerate(path.read_text(encoding='utf-8').splitlines(), start=1):
            if FORBIDDEN[what].search(line):
                hits.append(f'{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}')
    assert not hits, f'{what} in committed text:\n' + '\n'.join(hits)


def test_models_stay_small() -> None:
    sizes: dict[str, int] = {}
    for path in committed():
        parts = path.relative_to(ROOT).parts
        if parts[0] == 'models' and len(parts) > 2:
            sizes[parts[1]] = sizes.get(parts[1], 0) + path.stat().st_size
    assert sum(sizes.values()) < 25 * MEGABYTE, sizes
    for name, size in sizes.items():
        assert size < (8 if name.endswith('_bag') else 7) * MEGABYTE, (name, size)


def test_no_pickles_and_no_unsafe_yaml() -> None:
    unsafe = re.compile(
        r'^\s*(?:import|from) (?:pickle|dill|shelve|marshal)\b|yaml\.(?:load|unsafe_load|full_load)\(|allow_pickle=True'
    )
    hits = [
        f'{path.relative_to(ROOT)}:{number}'
        for path in committed()
        if path.suffix == '.py' and path != Path(__file__).resolve()
        for number, line in enumerate(path.read_text(encoding='utf-8').splitlines(), start=1)
        if unsafe.search(line)
    ]
    assert not hits


def test_licence_is_apache_2() -> None:
    text = (ROOT / 'LICENSE').read_text(encoding='utf-8')
    assert 'Apache License' in text
    assert 'Version 2.0, January 2004' in text
    assert len(text) > 10_000
