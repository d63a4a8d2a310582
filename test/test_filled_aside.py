"""Folders filled aside: what is seen under their name is old or new, never half of it."""

from pathlib import Path

import pytest

from kd6d_ros.filled_aside import filled_aside


def fill(folder, text):
    with filled_aside(folder) as aside:
        (aside / 'inner').mkdir()
        (aside / 'inner' / 'file').write_text(text)


def fill_half(folder):
    with filled_aside(folder) as aside:
        (aside / 'file').write_text('half')
        raise KeyboardInterrupt


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob('*'))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / 'above' / 'name'


def test_takes_the_place_of_the_folder(folder):
    fill(folder, 'old')
    (folder / 'more').write_text('of the old one')
    with filled_aside(folder) as aside:
        (aside / 'file').write_text('new')
        assert (folder / 'more').is_file()
    assert names(folder.parent) == ['name', 'name/file']
    assert (folder / 'file').read_text() == 'new'


@pytest.mark.parametrize('before', [True, False])
def test_an_interruption_leaves_what_was_there(folder, before):
    if before:
        fill(folder, 'old')
    with pytest.raises(KeyboardInterrupt):
        fill_half(folder)
    assert names(folder.parent) == (['name', 'name/inner', 'name/inner/file'] if before else [])


def test_a_swap_that_fails_brings_the_old_one_back(folder, monkeypatch):
    fill(folder, 'old')
    rename = Path.rename

    def refuse(self, target):
        if Path(target) == folder and not (self / 'inner').exists():
            raise OSError('no space')
        return rename(self, target)

    with pytest.raises(OSError, match='no space'), filled_aside(folder):
        monkeypatch.setattr(Path, 'rename', refuse)
    assert (folder / 'inner' / 'file').read_text() == 'old'
    assert names(folder.parent) == ['name', 'name/inner', 'name/inner/file']


def test_a_link_is_replaced_and_not_what_it_points_to(folder, tmp_path):
    fill(tmp_path / 'elsewhere', 'old')
    folder.parent.mkdir()
    folder.symlink_to(tmp_path / 'elsewhere')
    fill(folder, 'new')
    assert names(folder.parent) == ['name', 'name/inner', 'name/inner/file']
    assert not folder.is_symlink()
    assert (tmp_path / 'elsewhere' / 'inner' / 'file').read_text() == 'old'


def test_the_folder_one_stands_in(folder, monkeypatch):
    fill(folder, 'old')
    monkeypatch.chdir(folder)
    fill(Path(), 'new')
    assert (folder / 'inner' / 'file').read_text() == 'new'
