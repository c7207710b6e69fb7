"""The grammar of a Corefile, and what its plugins are told; every error names file and line."""

from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dns import names
from dns.corefile import read_corefile
from dns.forward import Upstream
from dns.health import Policy
from dns.interfaces import with_addresses
from dns.plugins.registry import DONE, NOT_YET, read_blocks
from dns.settings import Block, Listen
from dns.zone import PodsMode
from kubenet.errors import InvalidInput

KUBEADM = Path(__file__).parents[2] / "golden" / "kubeadm.Corefile"


def blocks(
    text: str, env: Mapping[str, str] | None = None, files: Mapping[str, str] | None = None
) -> tuple[Block, ...]:
    def read_files(pattern: str, _importer: str) -> Sequence[tuple[str, str]]:
        found = [(name, held) for name, held in (files or {}).items() if name.startswith(pattern.rstrip("*"))]
        if not found:
            raise InvalidInput(f"{pattern}: no such snippet or file")
        return found

    return read_blocks(read_corefile(text, "Corefile", env=env or {}, read_files=read_files))


def zones(block: Block) -> list[str]:
    return [names.to_text(zone) for zone in block.zones]


def test_P_the_corefile_of_kubeadm_is_understood() -> None:
    (block,) = blocks(KUBEADM.read_text())
    assert zones(block) == ["."]
    assert (block.port, block.lameduck_s, block.reload_s, block.loop) == (53, 5.0, 30.0, True)
    assert (block.health, block.ready, block.prometheus) == tuple(Listen(None, n) for n in (8080, 8181, 9153))
    assert block.kubernetes is not None
    assert block.kubernetes.domain == names.from_text("cluster.local")
    assert block.kubernetes.pods is PodsMode.INSECURE
    assert block.kubernetes.falls_through == {names.IN_ADDR_ARPA, names.IP6_ARPA}
    assert block.kubernetes.ttl_s == 30
    assert block.forwards[0].servers == ("/etc/resolv.conf",)
    assert block.forwards[0].max_concurrent == 1000
    assert block.cache is not None
    assert (block.cache.success_ttl_s, block.cache.denial_ttl_s) == (30, 30)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        pytest.param(".", [(["."], 53)], id="no port"),
        pytest.param(".:1053", [(["."], 1053)], id="port"),
        pytest.param("a.org b.org:54", [(["a.org."], 53), (["b.org."], 54)], id="two keys, two ports"),
        pytest.param("a.org,\nb.org", [(["a.org.", "b.org."], 53)], id="keys over two lines"),
        pytest.param("dns://A.org:99", [(["a.org."], 99)], id="transport"),
        pytest.param("https://a.org", [(["a.org."], 443)], id="another transport"),
        pytest.param("10.0.0.0/8", [(["10.in-addr.arpa."], 53)], id="network on a border"),
        pytest.param(
            "10.2.0.0/15", [(["2.10.in-addr.arpa.", "3.10.in-addr.arpa."], 53)], id="network between borders"
        ),
        pytest.param("fd00::/12:77", [(["0.d.f.ip6.arpa."], 77)], id="IPv6 network with port"),
    ],
)
def test_keys_say_zones_and_ports(text: str, want: list[tuple[list[str], int]]) -> None:
    assert [(zones(block), block.port) for block in blocks(text + " {\n errors\n}")] == want


def test_one_block_needs_no_braces() -> None:
    (block,) = blocks(".:53\nerrors\nhealth {\n lameduck 1s\n}\n")
    assert (block.errors, block.lameduck_s) == (True, 1.0)


def test_snippets_files_and_variables_are_put_in() -> None:
    text = """
    (common) {   # a snippet
        errors
        import more.conf
    }
    {$ZONE}:{%PORT%} {
        import common
    }
    import sites/*
    """
    files = {"more.conf": "bufsize 600", "sites/a": "a.org {\n errors\n}", "sites/b": "b.org {\n minimal\n}"}
    found = blocks(text, {"ZONE": "x.org", "PORT": "5"}, files)
    assert [(zones(block), block.port) for block in found] == [
        (["x.org."], 5),
        (["a.org."], 53),
        (["b.org."], 53),
    ]
    assert (found[0].errors, found[0].bufsize) == (True, 600)


def test_a_snippet_takes_arguments() -> None:
    (block,) = blocks("(up) {\n forward {args[0]} {args.1}\n}\n. {\n import up example.org 192.0.2.1\n}")
    assert (block.forwards[0].zone, block.forwards[0].servers) == (
        names.from_text("example.org"),
        (Upstream(ip_address("192.0.2.1")),),
    )
    with pytest.raises(InvalidInput, match=r"^Corefile:5: import: Corefile:2 wants argument 1, 1 given"):
        blocks("(up) {\n forward {args[0]} {args.1}\n}\n. {\n import up x\n}")


def test_root_is_the_directory_of_relative_paths() -> None:
    (block,) = blocks(". {\n file db.x x.org\n file /abs/db y.org\n hosts my.hosts\n root /etc/coredns\n}")
    assert [each.path for each in block.files] == ["/etc/coredns/db.x", "/abs/db"]
    assert block.hosts is not None
    assert block.hosts.file == "/etc/coredns/my.hosts"


def test_bind_takes_addresses_and_interfaces() -> None:
    (block,) = blocks(". {\n bind 192.0.2.1 eth0 {\n  except 192.0.2.7\n }\n}")
    held = {"eth0": (ip_address("192.0.2.7"), ip_address("192.0.2.8"), ip_address("fe80::1"))}
    (bound,) = with_addresses((block,), held)
    assert bound.bind == (ip_address("192.0.2.1"), ip_address("192.0.2.8"))
    with pytest.raises(InvalidInput, match="eth0 is neither an address nor an interface"):
        with_addresses((block,), {"lo": (ip_address("127.0.0.1"),)})


def test_forward_says_all_it_can() -> None:
    (block,) = blocks(
        """. {
        forward . 192.0.2.1 /etc/resolv.conf {
            prefer_udp
            expire 20s
            max_idle_conns 5
            health_check 1s no_rec domain example.org
            next NXDOMAIN REFUSED
            next_on_nodata
        }
    }"""
    )
    (to,) = block.forwards
    assert (to.prefer_udp, to.expire_s, to.max_idle) == (True, 20.0, 5)
    assert (to.health_check_s, to.health_check_recurse) == (1.0, False)
    assert to.health_check_domain == names.from_text("example.org")
    assert (to.next_on, to.next_on_nodata) == (frozenset((3, 5)), True)


@pytest.mark.parametrize(
    ("option", "advice"),
    [("polcy random", "policy"), ("max_fail 3", "max_fails"), ("health_chek 1s", "health_check")],
)
def test_a_word_that_is_nearly_one_is_answered_with_it(option: str, advice: str) -> None:
    with pytest.raises(InvalidInput) as error:
        blocks(f". {{\n forward . 192.0.2.1 {{\n {option}\n }}\n}}")
    assert error.value.next_step == f"did you mean {advice}?"
    with pytest.raises(InvalidInput) as error:
        blocks(". {\n kuberntes cluster.local\n}")
    assert error.value.next_step == "did you mean kubernetes?"


def test_A17_names_of_other_clusters_and_of_zones_are_refused_clearly() -> None:
    for option in ("multicluster clusterset.local", "zonal prefer"):
        with pytest.raises(InvalidInput, match=r"^Corefile:3: .* not done yet"):
            blocks(f". {{\n kubernetes cluster.local {{\n {option}\n }}\n}}")


def test_A18_the_old_option_transfer_says_where_it_went() -> None:
    with pytest.raises(InvalidInput, match="plugin of its own; write 'transfer"):
        blocks(". {\n kubernetes cluster.local {\n transfer to *\n }\n}")


def test_P1_errors_says_which_are_told_together() -> None:
    (block,) = blocks(
        '. {\n errors {\n consolidate 5m ".* timeout$" warning\n consolidate 30s "^Failed"\n }\n}'
    )
    rules = [(each.every_s, each.pattern, each.level) for each in block.consolidations]
    assert rules == [(300.0, ".* timeout$", "warning"), (30.0, "^Failed", "error")]


def test_P3_ready_may_stay_once_it_was() -> None:
    text = ". {{\n ready {{\n  monitor {}\n }}\n}}"
    assert [blocks(text.format(each))[0].ready_once for each in ("until-ready", "continuously")] == [
        True,
        False,
    ]


def test_a_quoted_word_may_hold_anything() -> None:
    (block,) = blocks('. {\n template ANY AAAA {\n  match "^a {2} \\"#" # rest\n }\n}')
    assert block.templates[0].matches == ('^a {2} "#',)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        pytest.param("", "Corefile:1: no server block", id="empty"),
        pytest.param(". {\n\n nonsense\n}", "Corefile:3: unknown plugin 'nonsense'", id="unknown plugin"),
        pytest.param(". {\n etcd\n}", "Corefile:2: plugin etcd is not done yet", id="plugin not done"),
        pytest.param(
            ". {\n kubernetes a.b {\n  podz x\n }\n}",
            "Corefile:3: kubernetes: unknown option 'podz'",
            id="option",
        ),
        pytest.param(
            ". {\n kubernetes a.b {\n  multicluster c.d\n }\n}",
            "Corefile:3: multicluster: names of other clusters",
            id="option not done",
        ),
        pytest.param(
            ". {\n forward . 1.1.1.1 {\n  tls\n }\n}",
            "Corefile:2: forward: tls is told, but no server is asked over it",
            id="tls to nobody",
        ),
        pytest.param(". {\n errors\n", "Corefile:1: this brace is never closed", id="D7 unclosed brace"),
        pytest.param(
            ". {\n errors }\n}", "Corefile:2: a brace ends a line or stands alone", id="brace in a line"
        ),
        pytest.param("}\n", "Corefile:1: a server block needs a key", id="brace too many"),
        pytest.param(
            "(a) {\n import b\n}\n(b) {\n import a\n}\n. {\n import a\n}",
            "Corefile:5: import: goes round: (a) -> (b) -> (a)",
            id="D7 snippets that import one another",
        ),
        pytest.param(
            "import Corefile", "Corefile:1: import: goes round: Corefile -> Corefile", id="D7 own file"
        ),
        pytest.param("import missing", "Corefile:1: missing: no such snippet or file", id="missing file"),
        pytest.param('. {\n errors "x\n}', "Corefile:2: this quote is never closed", id="quote"),
        pytest.param("tls://. {\n errors\n}", "Corefile:1: tls://: needs the plugin tls", id="tls"),
        pytest.param(
            "quic://. {\n errors\n}", "Corefile:1: key 'quic://.': transport quic is not done", id="quic"
        ),
        pytest.param(".:99999 {\n errors\n}", "Corefile:1: key '.:99999': port 99999", id="port"),
        pytest.param(
            "a {\n errors\n}\na {\n errors\n}",
            "Corefile:4: a. port 53 is served already, by Corefile:1",
            id="twice",
        ),
        pytest.param(". {\n cache x y z/\n}", "Corefile:2: cache: 'z/' does", id="bad network"),
        pytest.param(
            ". {\n forward . example.org\n}", "Corefile:2: forward: 'example.org' is neither", id="server"
        ),
        pytest.param(
            ". {\n health {\n  lameduck soon\n }\n}",
            "Corefile:2: health: 'soon' is not a duration",
            id="duration",
        ),
    ],
)
def test_D7_an_error_names_file_and_line(text: str, want: str) -> None:
    with pytest.raises(InvalidInput) as error:
        blocks(text, files={"Corefile": "import Corefile"})
    assert str(error.value).startswith(want)


def test_forward_and_cache_say_how() -> None:
    (block,) = blocks(
        """. {
        forward example.org 192.0.2.1:5353 [2001:db8::1]:54 dns://192.0.2.2 {
            policy sequential
            except a.example.org
            max_fails 3
            health_check 2s
            force_tcp
        }
        cache {
            success 10 60 1
            denial 5
            prefetch 3 30s 20%
            serve_stale 1h immediate
            servfail 1m
            disable denial example.net
        }
    }"""
    )
    (to,) = block.forwards
    assert to.servers == (
        Upstream(ip_address("192.0.2.1"), 5353),
        Upstream(ip_address("2001:db8::1"), 54),
        Upstream(ip_address("192.0.2.2")),
    )
    assert (to.policy, to.max_fails, to.health_check_s, to.force_tcp) == (Policy.SEQUENTIAL, 3, 2.0, True)
    assert to.takes(names.from_text("b.example.org"))
    assert not to.takes(names.from_text("x.a.example.org"))
    assert not to.takes(names.from_text("notexample.org"))
    cache = block.cache
    assert cache is not None
    assert (cache.success, cache.success_ttl_s, cache.success_least_s, cache.denial) == (10, 60, 1, 5)
    assert (cache.prefetch, cache.prefetch_within_s, cache.prefetch_share) == (3, 30.0, 0.2)
    assert (cache.stale_s, cache.servfail_s) == (3600.0, 5.0)


def test_A16_the_options_of_kubernetes() -> None:
    (block,) = blocks(
        """. {
        kubernetes cluster.local 10.96.0.0/16 {
            endpoint http://192.0.2.1:8080
            namespaces a b
            labels app in (x,y)
            pods verified
            endpoint_pod_names
            ttl 7
            noendpoints
            ignore empty_service
            fallthrough
            apiserver_qps 5
            startup_timeout 2s
        }
    }"""
    )
    config = block.kubernetes
    assert config is not None
    assert (sorted(config.namespaces), config.labels) == (["a", "b"], "app in (x,y)")
    assert (config.pods, config.pod_names, config.ttl_s) == (PodsMode.VERIFIED, True, 7)
    assert (config.endpoints, config.hide_empty, config.startup_timeout_s) == (False, True, 2.0)
    assert config.falls_through == {names.from_text("cluster.local"), names.from_text("96.10.in-addr.arpa")}


def test_a_plugin_is_done_or_not() -> None:
    assert not DONE & NOT_YET


@given(st.text(alphabet='.{}()#"\\\n a53:/,import$%errors', max_size=80))
def test_any_text_gives_blocks_or_an_error_with_its_line(text: str) -> None:
    try:
        blocks(text)
    except InvalidInput as error:
        where = str(error)
    else:
        where = "Corefile:"
    assert where.startswith("Corefile:")
