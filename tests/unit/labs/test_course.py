"""A course remembers what was passed."""

from pathlib import Path

import pytest

from kubenet.errors import KubenetError, NotFound
from labs import course
from labs.course import Progress


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def test_progress_is_remembered() -> None:
    assert course.read() == Progress()
    course.write(Progress(("split",), 2))
    assert course.read() == Progress(("split",), 2)


def test_the_easiest_exercise_not_passed_comes_next() -> None:
    first, second, *_ = course.lessons(3)
    assert course.following(Progress(), 3) == first
    assert course.following(Progress((first,)), 3) == second


def test_a_track_comes_to_its_end() -> None:
    with pytest.raises(NotFound, match="all of it is passed"):
        course.following(Progress(tuple(course.lessons(3))), 3)


def test_a_damaged_file_is_named() -> None:
    course.write(Progress())
    course.path().write_text("{")
    with pytest.raises(KubenetError, match="damaged") as refused:
        course.read()
    assert str(course.path()) in refused.value.message
