"""The ledger: one name, one lab, and what is damaged says so."""

from pathlib import Path

import pytest

from kubenet.errors import AlreadyExists, KubenetError, NotFound
from kubenet.kernel.process import own_identity
from labs import ledger
from labs.ledger import LabDirectory, Ledger


def test_a_name_is_taken_once(tmp_path: Path) -> None:
    lab = LabDirectory("demo", tmp_path / "labs")
    ledger.claim(lab, Ledger("demo", ("node-1",)))
    with pytest.raises(AlreadyExists, match="the name is taken") as raised:
        ledger.claim(lab, Ledger("demo", ("node-1",)))
    assert "kubenet lab down --name demo" in raised.value.next_step
    assert ledger.names(tmp_path / "labs") == ["demo"]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    lab = LabDirectory("demo", tmp_path)
    written = Ledger("demo", ("node-1", "node-2"), own_identity(), "http://127.0.0.1:1", "ready")
    ledger.claim(lab, Ledger("demo", ()))
    ledger.write(lab, written)
    assert ledger.read(lab) == written


def test_an_unknown_lab_is_not_found(tmp_path: Path) -> None:
    for act in (ledger.read, ledger.take_down):
        with pytest.raises(NotFound, match="no such lab"):
            act(LabDirectory("nothing", tmp_path))
    assert ledger.names(tmp_path / "nowhere") == []


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "/"])
def test_a_name_cannot_lead_out_of_the_labs_directory(tmp_path: Path, name: str) -> None:
    (tmp_path / "labs" / "a" / "b").mkdir(parents=True)
    with pytest.raises(NotFound):
        ledger.take_down(LabDirectory(name, tmp_path / "labs"))
    assert (tmp_path / "labs" / "a" / "b").is_dir()


def test_a_damaged_ledger_names_the_file_and_the_way_out(tmp_path: Path) -> None:
    lab = LabDirectory("demo", tmp_path)
    ledger.claim(lab, Ledger("demo", ()))
    lab.ledger.write_text("{")
    with pytest.raises(KubenetError, match=r"ledger\.json: damaged") as raised:
        ledger.read(lab)
    assert "kubenet lab down --name demo" in raised.value.next_step
