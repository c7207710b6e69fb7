"""Records in a directory, and what a reboot, a crash and a full disk make of them."""

from ipaddress import ip_address
from pathlib import Path

import pytest

from ipam.record import AllocationRecord, Phase, Stored
from ipam.store import RecordStore, StoreFailed

BOOT = "one"


def record(number: int) -> AllocationRecord:
    return AllocationRecord(
        f"k{number}", (ip_address(f"10.244.1.{number}"),), container_id=f"c{number}", created_ns=10 - number
    )


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    return RecordStore.open(tmp_path / "state" / "records", BOOT)


def again(store: RecordStore, boot_id: str = BOOT) -> RecordStore:
    """A later agent's view of the same directory."""
    return RecordStore.open(store.directory, boot_id)


def test_a_record_goes_through_its_phases(store: RecordStore) -> None:
    store.begin(record(1))
    assert again(store).load()[0] == [Stored(record(1), Phase.ADDING)]
    store.commit("k1")
    assert again(store).load()[0] == [Stored(record(1), Phase.ATTACHED)]
    store.retire("k1")
    assert again(store).load()[0] == [Stored(record(1), Phase.DYING)]
    store.forget("k1")
    assert again(store).load() == ([], [])


def test_records_come_oldest_first(store: RecordStore) -> None:
    for number in (1, 2, 3):
        store.begin(record(number))
    assert [entry.record.host_ifname for entry in store.load()[0]] == ["k3", "k2", "k1"]


def test_forgetting_what_is_not_there_is_fine(store: RecordStore) -> None:
    store.forget("k7")


def test_N6_after_a_reboot_nothing_is_held(store: RecordStore) -> None:
    store.begin(record(1))
    store.commit("k1")
    assert again(store, "another boot").load() == ([], [])
    assert again(store, "another boot").load() == ([], [])


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="an empty file"),
        pytest.param(b'{"host_ifname":"k1","addresses":["10.2', id="cut short"),
        pytest.param(b'{"host_ifname":"k1","addresses":["10.2.3.999"]}', id="no address"),
        pytest.param(b'{"host_ifname":"k2","addresses":["10.2.3.4"]}', id="of another link"),
        pytest.param(b"\xff\xfe", id="no text"),
    ],
)
def test_N11_a_broken_record_is_named_with_its_link_and_the_others_are_read(
    store: RecordStore, content: bytes
) -> None:
    store.begin(record(3))
    (store.directory / "k1.attached").write_bytes(content)
    records, broken = store.load()
    assert [entry.record.host_ifname for entry in records] == ["k3"]
    assert [(entry.path.name, entry.host_ifname) for entry in broken] == [("k1.attached", "k1")]
    assert broken[0].reason


def test_what_a_crash_leaves_of_a_half_written_record_is_no_record(store: RecordStore) -> None:
    (store.directory / "k1.adding.tmp").write_bytes(b'{"host_if')
    assert store.load() == ([], [])


def test_N2_a_record_that_cannot_be_written_leaves_nothing(store: RecordStore) -> None:
    (store.directory / "k1.adding").mkdir()  # a rename onto a directory fails
    with pytest.raises(StoreFailed, match="cannot write the record of container c1"):
        store.begin(record(1))
    assert [path.name for path in store.directory.iterdir() if path.suffix == ".tmp"] == []


def test_a_phase_that_was_lost_is_an_error_of_ours(store: RecordStore) -> None:
    with pytest.raises(StoreFailed, match="cannot mark k1 as attached"):
        store.commit("k1")


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreFailed, match="file/records"):
        RecordStore.open(tmp_path / "file" / "records", BOOT)
