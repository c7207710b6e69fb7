"""The file of addresses that pods keep."""

from ipaddress import ip_address
from pathlib import Path

import pytest

from ipam.sticky import StickyFile
from ipam.store import StoreFailed

KEPT = {"a/db-0": (ip_address("10.244.1.9"), ip_address("fd00::9")), "b/c": (ip_address("10.244.1.3"),)}


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    file = StickyFile(tmp_path / "lib" / "sticky.json")
    assert file.read() == {}
    file.write(KEPT)
    assert StickyFile(tmp_path / "lib" / "sticky.json").read() == KEPT
    assert [path.name for path in (tmp_path / "lib").iterdir()] == ["sticky.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": ["nowhere"]}', '{"a": "10.0.0.1"}'])
def test_N11_a_broken_file_is_named_and_not_taken_for_an_empty_one(tmp_path: Path, text: str) -> None:
    path = tmp_path / "sticky.json"
    path.write_text(text)
    with pytest.raises(StoreFailed, match=r"sticky\.json"):
        StickyFile(path).read()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreFailed, match=r"file/sticky\.json"):
        StickyFile(tmp_path / "file" / "sticky.json").write(KEPT)


def test_without_a_path_nothing_is_remembered() -> None:
    StickyFile(None).write(KEPT)
    assert StickyFile(None).read() == {}
