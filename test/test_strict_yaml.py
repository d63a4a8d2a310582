"""Settings files: each kind of mistake is one line with the file, the dotted name of the setting and the cure."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd6d_ros.errors import ConfigError
from kd6d_ros.strict_yaml import MAX_BYTES, from_mapping, parse_setting, parse_yaml, read_mapping


@dataclass(frozen=True)
class Light:
    gain: tuple[float, float] = (0.5, 1.5)
    flash_probability: float = 0.5
    colour: str = 'white'

    def __post_init__(self):
        if self.colour == 'black':
            raise ConfigError('light.colour: black is no light')


@dataclass(frozen=True)
class Scene:
    light: Light = field(default_factory=Light)
    count: int = 3
    size: tuple[int, int] = (640, 480)
    strides: tuple[int, ...] = (8, 16)
    names: tuple[str, ...] = ()
    kept_fraction: float = 0.1
    lr: float = 1.0
    fast: bool = False


def load(text, tmp_path):
    path = tmp_path / 'scene.yaml'
    path.write_text(text, encoding='utf-8')
    return from_mapping(Scene, read_mapping(path), str(path))


def test_what_is_given_is_taken_and_the_rest_keeps_its_default(tmp_path):
    text = 'light: {gain: [1, 2], colour: red}\ncount: 7\nstrides: [4]\nnames: [a, b]\nfast: yes\nsize: [64, 48]\n'
    scene = load(text, tmp_path)
    assert scene == Scene(Light((1.0, 2.0), 0.5, 'red'), 7, (64, 48), (4,), ('a', 'b'), fast=True)
    assert load('', tmp_path) == Scene() == from_mapping(Scene, asdict(Scene()), 'here')


@pytest.mark.parametrize(('text', 'value'), [('1e-3', 1e-3), ('5E2', 500.0), ('-.5e+1', -5.0), ('3', 3.0), ('.5', 0.5)])
def test_numbers_are_numbers_however_yaml_reads_them(tmp_path, text, value):
    scene = load(f'lr: {text}', tmp_path)
    assert (scene.lr, type(scene.lr)) == (value, float)


@pytest.mark.parametrize('text', ['1e4', '10000.0', '10000'])
def test_a_whole_number_may_be_written_with_an_exponent(tmp_path, text):
    count = load(f'count: {text}', tmp_path).count
    assert (count, type(count)) == (10000, int)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('cuont: 3', "unknown setting 'cuont'; did you mean 'count'?"),
        ('light: {gian: [1, 2]}', "unknown setting 'light.gian'; did you mean 'light.gain'?"),
        ('gain: [1, 2]', "unknown setting 'gain'; did you mean 'light.gain'?"),
        ('light: {zzz: 1}', "unknown setting 'light.zzz'; expected one of gain, flash_probability, colour"),
        ('1: 2', "unknown setting '1'; expected one of light"),
        ('count: many', "count must be a whole number, got 'many'"),
        ('count: true', 'count must be a whole number, got True'),
        ('count: 2.5', 'count must be a whole number, got 2.5'),
        ('count:', 'count must be a whole number, got None'),
        ('lr: fast', "lr must be a number, got 'fast'"),
        ('lr: "0.5"', "lr must be a number, got '0.5'"),
        ('lr: nan', "lr must be a number, got 'nan'"),
        ('lr: .nan', 'lr must be a number, got nan'),
        ('lr: -.inf', 'lr must be a number, got -inf'),
        ('lr: 1e999', "lr must be a number, got '1e999'"),
        ('lr: 1' + 400 * '0', 'lr must be a number, got 10000'),
        ('count: 0x' + 20000 * 'f', 'count must be a whole number, got a number of thousands of digits'),
        ('fast: 1', 'fast must be true or false, got 1'),
        ('light: {colour: 3}', 'light.colour must be text (in quotes), got 3'),
        ('light: {gain: 3}', 'light.gain must be a list of 2 numbers, got 3'),
        ('light: {gain: [1, 2, 3]}', 'light.gain must be a list of 2 numbers, got [1, 2, 3]'),
        ('light: {gain: [2, 1]}', 'light.gain = [2.0, 1.0]: the low end is above the high end'),
        ('light: {gain: [1, .inf]}', 'light.gain must be a number, got inf'),
        ('light: {flash_probability: 1.5}', 'light.flash_probability = 1.5: a probability lies in 0..1'),
        ('light: {colour: black}', 'light.colour: black is no light'),
        ('kept_fraction: -0.1', 'kept_fraction = -0.1: a fraction lies in 0..1'),
        ('strides: 8', 'strides must be a list of whole numbers, got 8'),
        ('names: [1]', 'names must be text (in quotes), got 1'),
        ('light: 3', 'light must be a mapping of settings, got 3'),
        ('light:', 'light must be a mapping of settings, got None'),
        ('[1, 2]', 'the top level must be a mapping of settings, got [1, 2]'),
        ('false', 'the top level must be a mapping of settings, got False'),
        ('light: [', 'not valid YAML'),
        ('when: 2024-13-01', 'not valid YAML (month must be in 1..12)'),
        ('light: ' + 2000 * '[', 'not valid YAML'),
        ('light: !!python/object:os.system {}', 'not valid YAML'),
    ],
)
def test_a_mistake_is_one_line_with_file_and_setting(tmp_path, text, message):
    with pytest.raises(ConfigError) as caught:
        load(text, tmp_path)
    line = str(caught.value)
    assert message in line
    assert line.startswith(str(tmp_path / 'scene.yaml'))
    assert '\n' not in line
    assert len(line) < len(str(tmp_path)) + 300


def test_files_that_are_not_settings(tmp_path):
    with pytest.raises(ConfigError, match=r'none\.yaml: cannot be read \(No such file'):
        read_mapping(tmp_path / 'none.yaml')
    with pytest.raises(ConfigError, match=r'cannot be read \(Is a directory'):
        read_mapping(tmp_path)
    path = tmp_path / 'big.yaml'
    path.write_bytes(b'#' * (MAX_BYTES + 1))
    with pytest.raises(ConfigError, match='over the limit of 1 MiB'):
        read_mapping(path)
    path.write_bytes(b'a: \xff\xfe')
    with pytest.raises(ConfigError, match='not valid YAML'):
        read_mapping(path)
    with pytest.raises(ConfigError, match="override 'a=': not valid YAML"):
        parse_yaml('[1', "override 'a='")


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NAMES = ['light', 'count', 'size', 'strides', 'names', 'kept_fraction', 'lr', 'fast', 'gain', 'colour']


def taken(content):
    """The scene, or the message of the error."""
    try:
        return from_mapping(Scene, content, 'here')
    except ConfigError as error:
        return str(error)


@settings(deadline=None, max_examples=100)
@given(st.dictionaries(st.sampled_from(NAMES), plain | st.dictionaries(st.sampled_from(NAMES), plain, max_size=3)))
def test_anything_is_either_taken_or_one_line(content):
    scene = taken(content)
    if isinstance(scene, str):
        assert scene.startswith('here: ')
        assert len(scene.splitlines()) == 1
    else:
        assert from_mapping(Scene, asdict(scene), 'here') == scene


@pytest.mark.parametrize(
    ('text', 'setting'),
    [('a.b=3', ('a.b', 3)), ('size=[64, 48]', ('size', [64, 48])), ('url=x=y', ('url', 'x=y')), ('a=', ('a', None))],
)
def test_a_setting_is_a_name_and_a_plain_value(text, setting):
    assert parse_setting(text, '--set', 'a=1') == setting


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('steps', '--set: expected NAME=VALUE, e.g. a=1'),
        ('=3', '--set: expected NAME=VALUE, e.g. a=1'),
        ('a=[1', '--set: not valid YAML .*'),
    ],
)
def test_a_text_that_is_no_setting_is_one_line(text, message):
    with pytest.raises(ConfigError, match=f'^{message}$'):
        parse_setting(text, '--set', 'a=1')
