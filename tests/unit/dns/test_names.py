"""Wire names: text and back, what they refuse, reverse names."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dns import names
from kubenet.errors import InvalidInput

labels = st.binary(min_size=1, max_size=63)
wire_names = st.lists(labels, max_size=4).map(names.from_labels)


@given(wire_names)
def test_every_name_survives_its_spelling(name: bytes) -> None:
    assert names.from_text(names.to_text(name)) == name
    assert names.from_labels(names.to_labels(name)) == name


@given(wire_names)
def test_lowering_a_name_changes_letters_and_no_length(name: bytes) -> None:
    assert names.to_labels(name.lower()) == tuple(label.lower() for label in names.to_labels(name))


@pytest.mark.parametrize(
    ("text", "wire"),
    [
        pytest.param(".", b"\0", id="the root"),
        pytest.param("a.b", b"\x01a\x01b\0", id="without a final dot"),
        pytest.param("a.b.", b"\x01a\x01b\0", id="with a final dot"),
        pytest.param(r"a\.b", b"\x03a.b\0", id="a dot inside a label"),
        pytest.param(r"\000\255", b"\x02\0\xff\0", id="octets by number"),
    ],
)
def test_a_spelling_means(text: str, wire: bytes) -> None:
    assert names.from_text(text) == wire


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a..b", id="an empty label"),
        pytest.param("x" * 64, id="a label of 64 octets"),
        pytest.param(".".join(["x" * 49] * 6), id="a name of more than 255 octets"),
        pytest.param("a\\", id="a backslash at the end"),
        pytest.param("\\256", id="an octet above 255"),
    ],
)
def test_a_spelling_that_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        names.from_text(text)


def test_the_longest_label_and_the_longest_name_are_fine() -> None:
    name = names.from_labels([b"x" * 63, b"y" * 63, b"z" * 63, b"w" * 61])
    assert len(name) == names.MAX_NAME


@given(st.ip_addresses().map(lambda address: address.packed))
def test_a_reverse_name_leads_back_to_its_address(packed: bytes) -> None:
    assert names.to_text(names.reverse_name(packed)) == ip_address(packed).reverse_pointer + "."
    assert names.reverse_address(names.to_labels(names.reverse_name(packed))) == packed


@pytest.mark.parametrize(
    ("text", "address"),
    [
        pytest.param("1.2.3.in-addr.arpa", b"", id="the front is missing: a name above addresses"),
        pytest.param("in-addr.arpa", b"", id="the top of the tree"),
        pytest.param("f.ip6.arpa", b"", id="one nibble"),
        pytest.param("1.2.3.4.5.in-addr.arpa", None, id="five octets"),
        pytest.param("01.2.3.4.in-addr.arpa", None, id="an octet with a leading zero"),
        pytest.param("256.2.3.4.in-addr.arpa", None, id="an octet too big"),
        pytest.param("x.ip6.arpa", None, id="not a nibble"),
        pytest.param("4.3.2.1.example", None, id="another tree"),
    ],
)
def test_a_reverse_name_of_no_whole_address(text: str, address: bytes | None) -> None:
    assert names.reverse_address(names.to_labels(names.from_text(text))) == address


def test_a_label_for_people_has_no_dot() -> None:
    assert names.label_of("Web") == b"web"
    assert names.label_of("a.b") is None
    assert names.label_of("") is None
    assert names.label_of("x" * 64) is None
