"""The sentences we say: their text, what they refuse, and that reading the text gives the sentence back."""

import re
from collections.abc import Callable
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubenet.model.iptables import (
    AddressKind,
    Comment,
    CtState,
    Destination,
    DestinationKind,
    DestinationPort,
    Dnat,
    EveryNth,
    FlipMark,
    InInterface,
    InState,
    Jump,
    Marked,
    Masquerade,
    OfProtocol,
    OneIn,
    OutInterface,
    PutOnList,
    Reject,
    Rule,
    SeenWithin,
    SetMark,
    Source,
    SourceKind,
    Table,
    TableWrite,
    Verdict,
    first_write,
    render_restore,
)
from kubenet.model.iptables_save import read_rule
from kubenet.model.protocol import Protocol
from tests.unit.proxy.strategies import rules

LAW = settings(max_examples=80, deadline=None)
TCP, UDP, SCTP = Protocol.TCP, Protocol.UDP, Protocol.SCTP
NET = ip_network("10.244.0.0/16")
HOST = ip_network("10.96.0.1")


def test_every_sentence_as_text(golden: Callable[[str, str], None]) -> None:
    """The netns tests load this file and read it back, so it is also what the kernel says."""
    said = (
        Rule((Source(NET),), Verdict.RETURN),
        Rule((Source(NET, negated=True), Destination(HOST)), Verdict.ACCEPT),
        Rule((Destination(NET, negated=True), OutInterface("eth0", negated=True)), Verdict.ACCEPT),
        Rule((InInterface("pod+"),), Verdict.ACCEPT),
        Rule((OfProtocol(UDP),), Verdict.DROP),
        Rule((DestinationPort(SCTP, 9), Destination(HOST)), Reject()),
        Rule((InState(frozenset({CtState.RELATED, CtState.ESTABLISHED})),), Verdict.ACCEPT),
        Rule((InState(frozenset({CtState.INVALID, CtState.NEW, CtState.DNAT})),), Verdict.DROP),
        Rule((Marked(0x4000),), Verdict.ACCEPT),
    )
    chosen = (
        Rule((Comment("word"), DestinationPort(TCP, 80)), Jump("KUBE-MARK-MASQ")),
        Rule(
            (Comment("demo/web:http -> 10.244.1.2:80"), SeenWithin("KUBE-SEP-A", 10800)), Jump("KUBE-SEP-A")
        ),
        Rule((OneIn(3),), Jump("KUBE-SEP-A")),
        Rule((OneIn(7),), Jump("KUBE-SEP-A")),
        Rule((EveryNth(2),), Jump("KUBE-SEP-A")),
        Rule((DestinationKind(AddressKind.LOCAL),), Jump("KUBE-SEP-A")),
        Rule((DestinationKind(AddressKind.MULTICAST, negated=True),), Verdict.RETURN),
        Rule((SourceKind(AddressKind.LOCAL),), Jump("KUBE-SEP-A")),
        Rule((SourceKind(AddressKind.LOCAL, negated=True),), Jump("KUBE-SEP-A")),
    )
    translated = (Rule((OfProtocol(TCP), PutOnList("KUBE-SEP-A")), Dnat(ip_address("10.244.1.2"), 8080)),)
    marked = (Rule((), SetMark(0x4000)), Rule((), FlipMark(0x4000)))
    masqueraded = (
        Rule((Marked(0x4000, negated=True),), Verdict.RETURN),
        Rule((), Masquerade()),
        Rule((), Masquerade(random_fully=False)),
    )
    nat = Table(
        "nat",
        {"KUBE-SVC-A": chosen, "KUBE-SEP-A": translated, "KUBE-MARK-MASQ": marked, "KUBE-OUT": masqueraded},
        {"PREROUTING": (Rule((), Jump("KUBE-SVC-A")),), "POSTROUTING": (Rule((), Jump("KUBE-OUT")),)},
    )
    golden(
        "proxy_sentences.rules",
        render_restore([first_write(nat), first_write(Table("filter", {"KUBE-F": said}))]),
    )


def test_sentences_of_ipv6_differ_where_the_tools_do() -> None:
    assert Rule((), Reject()).text(6) == "-j REJECT --reject-with icmp6-port-unreachable"
    assert Dnat(ip_address("fd00::2"), 80).text(6) == "-j DNAT --to-destination [fd00::2]:80"
    assert "--mask ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff --rsource" in PutOnList("KUBE-SEP-A").text(6)
    assert Source(ip_network("fd00::2")).text(6) == "-s fd00::2/128"


def test_nothing_to_do_is_no_text() -> None:
    assert render_restore([TableWrite("nat"), TableWrite("filter")]) == ""


def test_a_write_declares_before_it_fills_and_deletes_last() -> None:
    write = TableWrite(
        "nat",
        {"KUBE-SVC-A": (Rule((), Verdict.RETURN),)},
        removed=["KUBE-SVC-B"],
        emptied=["KUBE-SVC-C"],
        inserted=[("OUTPUT", Rule((), Jump("KUBE-SVC-A")))],
        withdrawn=[("OUTPUT", Rule((), Jump("KUBE-SVC-B")))],
    )
    assert render_restore([write]).splitlines() == [
        "*nat",
        ":KUBE-SVC-A - [0:0]",
        ":KUBE-SVC-B - [0:0]",
        ":KUBE-SVC-C - [0:0]",
        "-D OUTPUT -j KUBE-SVC-B",
        "-I OUTPUT 1 -j KUBE-SVC-A",
        "-A KUBE-SVC-A -j RETURN",
        "-X KUBE-SVC-B",
        "COMMIT",
    ]


@pytest.mark.parametrize(
    ("make", "what"),
    [
        pytest.param(lambda: Jump("KUBE SVC"), "a chain name", id="space in a chain name"),
        pytest.param(lambda: Jump("-j"), "a chain name", id="option as a chain name"),
        pytest.param(lambda: Jump("A" * 29), "a chain name", id="chain name too long"),
        pytest.param(lambda: Jump("A\nCOMMIT"), "a chain name", id="line end in a chain name"),
        pytest.param(lambda: Jump("A\n"), "a chain name", id="line end after a chain name"),
        pytest.param(lambda: Table("nat", {"": ()}), "a chain name", id="empty chain name"),
        pytest.param(
            lambda: InInterface("eth0 -j ACCEPT"), "an interface name", id="words after an interface"
        ),
        pytest.param(lambda: OutInterface("sixteen-letters-"), "an interface name", id="interface too long"),
        pytest.param(lambda: PutOnList("a/../b"), "a list", id="path as the name of a list"),
        pytest.param(lambda: Comment('" -j ACCEPT'), "a comment", id="quote in a comment"),
        pytest.param(lambda: Comment("a\nb"), "a comment", id="line end in a comment"),
        pytest.param(lambda: Comment("a" * 256), "a comment", id="comment too long"),
        pytest.param(lambda: Comment("-j"), "a comment", id="option as a comment"),
        pytest.param(lambda: DestinationPort(TCP, 0), "0 is not a port", id="port 0"),
        pytest.param(lambda: Dnat(ip_address("10.0.0.1"), 65536), "65536 is not a port", id="port too large"),
        pytest.param(lambda: Source(ip_network("0.0.0.0/0")), "says nothing", id="every source"),
        pytest.param(lambda: OneIn(1), "needs no match", id="share of all"),
        pytest.param(lambda: EveryNth(0), "needs no match", id="every 0th"),
        pytest.param(lambda: Rule((Source(NET), Source(HOST)), Verdict.DROP), "twice", id="two sources"),
        pytest.param(
            lambda: Rule((OfProtocol(TCP), DestinationPort(UDP, 5)), Verdict.DROP),
            "twice",
            id="two protocols",
        ),
    ],
)
def test_what_cannot_be_said_cannot_be_made(make: Callable[[], object], what: str) -> None:
    with pytest.raises(ValueError, match=re.escape(what)):
        make()


HOSTILE = [
    pytest.param('x" -j ACCEPT', id="closing the quotation"),
    pytest.param("x\n-A INPUT -j ACCEPT\n", id="a second line"),
    pytest.param("x\nCOMMIT\n*filter\n:INPUT DROP [0:0]\n", id="another table"),
    pytest.param("\\", id="escaping our own quotation mark"),
    pytest.param("'$(reboot)'`reboot`;#", id="a shell's words"),
    pytest.param("x\0y", id="NUL"),
    pytest.param("\u2028\u0085\r\v\f", id="other line ends"),
    pytest.param("naïve ☃", id="not ASCII"),
    pytest.param(
        "n" * 253 + "/" + "s" * 253 + ":" + "p" * 63 + " -> 10.0.0.1:80", id="names of 253 characters"
    ),
    pytest.param("", id="nothing"),
    pytest.param("--comment", id="an option"),
]


@pytest.mark.parametrize("words", HOSTILE)
def test_C_no_string_gets_out_of_its_comment(words: str) -> None:
    rule = Rule((Comment.of(words), DestinationPort(TCP, 80)), Verdict.DROP)
    text = rule.text()
    assert len(text.splitlines()) == 1
    assert text.isascii()
    assert text.isprintable()
    assert read_rule(text) == rule
    assert re.fullmatch(
        r'-p tcp -m tcp --dport 80 -m comment --comment ("[^"\\]{1,255}"|[\w-]{1,255}) -j DROP', text
    )


@LAW
@given(st.text(max_size=600))
def test_C_any_string_makes_a_comment_of_one_line(words: str) -> None:
    rule = Rule((Comment.of(words),), Verdict.DROP)
    assert read_rule(rule.text()) == rule
    assert len(rule.text().splitlines()) == 1


@LAW
@given(rules(4))
def test_reading_the_text_gives_the_rule_back(rule: Rule) -> None:
    assert read_rule(rule.text(4)) == rule


@LAW
@given(rules(6))
def test_reading_the_text_gives_the_rule_back_in_ipv6(rule: Rule) -> None:
    assert read_rule(rule.text(6)) == rule
