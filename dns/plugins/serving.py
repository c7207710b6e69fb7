"""Reads the plugins that say where and how a block is served: addresses, pages, reload, sizes. *Pure.*

Source: the plugins' manual pages of CoreDNS.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address

from dns.corefile import Directive
from dns.plugins.expression import compile_expression
from dns.plugins.values import TlsFiles, ViewConfig
from dns.settings import Block
from dns.wire import UDP_BYTES
from dns.words import duration_s, listen_at, nothing_more, one_value, unknown_option, whole_number
from kubenet.errors import InvalidInput

_CLIENT_AUTH = ("nocert", "request", "require", "verify_if_given", "require_and_verify")
NSID_CODE = 3
Reader = Callable[[Block, Directive], Block]


def flag(name: str) -> Reader:
    """Return the reader of a plugin that is told nothing more; without a ``name`` it changes nothing."""

    def read(block: Block, directive: Directive) -> Block:
        nothing_more(directive)
        return replace(block, **{name: True}) if name else block  # type: ignore[arg-type]  # a bool field

    return read


def read_health(block: Block, directive: Directive) -> Block:
    lameduck_s = 0.0
    for option in directive.options:
        if option.name != "lameduck":
            raise unknown_option(option, "health", ("lameduck",))
        lameduck_s = duration_s(one_value(option))
    return replace(block, health=listen_at(directive, 8080, everywhere=True), lameduck_s=lameduck_s)


def read_ready(block: Block, directive: Directive) -> Block:
    """Return the block that says whether it is ready. Raises InvalidInput."""
    once = False
    for option in directive.options:
        if option.name != "monitor" or option.args not in (("continuously",), ("until-ready",)):
            raise unknown_option(option, "ready", ("monitor",))
        once = option.args == ("until-ready",)
    return replace(block, ready=listen_at(directive, 8181, everywhere=True), ready_once=once)


def read_root(block: Block, directive: Directive) -> Block:
    nothing_more(directive, args=1)
    return replace(block, root=one_value(directive))


def read_prometheus(block: Block, directive: Directive) -> Block:
    listen = listen_at(directive, 9153, everywhere=False)
    nothing_more(directive, args=1)
    return replace(block, prometheus=listen)


def read_reload(block: Block, directive: Directive) -> Block:
    nothing_more(directive, args=2)
    every_s = duration_s(directive.args[0]) if directive.args else 30.0
    jitter_s = duration_s(directive.args[1]) if len(directive.args) > 1 else every_s / 2
    if every_s < 2 or jitter_s > every_s / 2:
        raise directive.wrong("at least 2s, and a jitter of at most half of it")
    return replace(block, reload_s=every_s, reload_jitter_s=jitter_s)


def read_loadbalance(block: Block, directive: Directive) -> Block:
    if directive.args not in ((), ("round_robin",)):
        raise directive.wrong(f"policy {directive.args[0]} is not done yet; there is round_robin")
    nothing_more(directive, args=1)
    return block  # addresses are turned in every answer anyway


def read_bind(block: Block, directive: Directive) -> Block:
    """Return the block that listens on some addresses only. Raises InvalidInput."""
    excepted: frozenset[str] = frozenset()
    for option in directive.options:
        if option.name != "except":
            raise unknown_option(option, "bind", ("except",))
        excepted |= frozenset(option.args)
    wanted = [text for text in directive.args if text not in excepted]
    addresses = tuple(ip_address(text) for text in wanted if _is_address(text))
    ifnames = tuple(text for text in wanted if not _is_address(text))
    for ifname in ifnames:
        if not _IFNAME.fullmatch(ifname):
            raise directive.wrong(f"{ifname!r} is neither an address nor an interface")
    return replace(
        block,
        bind=block.bind + addresses,
        interfaces=block.interfaces + ifnames,
        bind_except=block.bind_except | excepted,
    )


_IFNAME = re.compile(r"[^\s/:.][^\s/:]{0,14}")  # as the kernel has them


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def read_bufsize(block: Block, directive: Directive) -> Block:
    nothing_more(directive, args=1)
    size = whole_number(directive.args[0], 512, 4096) if directive.args else UDP_BYTES
    return replace(block, bufsize=min(size, UDP_BYTES))


def read_nsid(block: Block, directive: Directive) -> Block:
    nothing_more(directive, args=len(directive.args))
    text = " ".join(directive.args) or "{hostname}"
    return replace(block, nsid=text.encode())


def read_tls(block: Block, directive: Directive) -> Block:
    """Return the block with the certificate that it shows. Raises InvalidInput."""
    if len(directive.args) not in (2, 3):
        raise directive.wrong("needs the files of a certificate and its key, and perhaps of an authority")
    client_auth = "nocert"
    for option in directive.options:
        if option.name != "client_auth":
            raise unknown_option(option, "tls", ("client_auth",))
        client_auth = one_value(option)
        if client_auth not in _CLIENT_AUTH:
            raise option.wrong(f"{client_auth!r} is not one of {', '.join(_CLIENT_AUTH)}")
    cert, key, *ca = directive.args
    if client_auth in ("require", "verify_if_given", "require_and_verify") and not ca:
        raise directive.wrong(f"client_auth {client_auth} needs the file of an authority")
    return replace(block, tls=TlsFiles(cert, key, "".join(ca), client_auth))


def read_view(block: Block, directive: Directive) -> Block:
    """Return the block that is for some queries only. Raises InvalidInput."""

    expressions: list[str] = []
    for option in directive.options:
        if option.name != "expr":
            raise unknown_option(option, "view", ("expr",))
        text = " ".join(option.args)
        try:
            compile_expression(text)
        except InvalidInput as error:
            raise option.wrong(str(error)) from error
        expressions.append(text)
    if not expressions:
        raise directive.wrong("needs 'expr EXPRESSION'")
    return replace(block, views=(*block.views, ViewConfig(one_value(directive), tuple(expressions))))
