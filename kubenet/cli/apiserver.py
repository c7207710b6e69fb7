"""``kubenet apiserver``: the Kubernetes API over a store of one file, in memory, or in etcd."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kubenet.errors import InvalidInput

if TYPE_CHECKING:
    import socket
    from ipaddress import IPv4Network
    from typing import TextIO

    from kubenet.apiserver.datadir import DataDir
    from kubenet.apiserver.http import Listener
    from kubenet.store.base import Store
    from kubenet.store.etcd import EtcdConfig

STORES = ("sqlite", "memory", "etcd")


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    data_dir: Path
    listen: str
    insecure_listen: str
    store: str
    service_cidr: str
    advertise: str
    names: tuple[str, ...]
    token_file: Path | None
    anonymous: bool
    audit_log: Path | None
    reads_most: int
    writes_most: int
    misbehave: str
    etcd: "EtcdOptions"


@dataclass(frozen=True, slots=True)
class EtcdOptions:
    """How etcd is reached."""

    endpoints: str
    root: str
    ca: Path | None
    cert: Path | None
    key: Path | None


@click.group(invoke_without_command=True)
@click.option("--data-dir", type=Path, required=True, help="Keys, certificates, the store.")
@click.option("--listen", default="127.0.0.1:6443", show_default=True, help="HOST:PORT for TLS.")
@click.option("--store", type=click.Choice(STORES), default="sqlite", show_default=True)
@click.option("--service-cidr", default="10.96.0.0/16", show_default=True, help="Of cluster IPs.")
@click.option("--advertise", default="", help="HOST:PORT that kubeconfig files name; default: --listen.")
@click.option("--name", "names", multiple=True, help="Another name or address of the certificate. Repeat.")
@click.option("--token-auth-file", "token_file", type=Path, help='Lines of token,user,uid,"group1,group2".')
@click.option("--anonymous-auth", "anonymous", is_flag=True, help="Let system:anonymous ask; RBAC decides.")
@click.option(
    "--insecure-listen", default="",
    help="Plain HTTP too, without any check: HOST:PORT of loopback, or unix:PATH.",
)  # fmt: skip
@click.option("--audit-log", type=Path, help="Append a line of JSON for every write.")
@click.option("--etcd-endpoints", default="http://127.0.0.1:2379", show_default=True, help="With commas.")
@click.option("--etcd-root", default="/kubenet", show_default=True, help="Below which key all is kept.")
@click.option("--etcd-ca", type=Path, help="PEM file of etcd's authority.")
@click.option("--etcd-cert", type=Path, help="PEM file of our certificate for etcd.")
@click.option("--etcd-key", type=Path, help="PEM file of its key.")
@click.option(
    "--misbehave",
    default="",
    help="Faults for exercises: cut=P,half=P,duplicate=P,gone=P,silence=P,refuse=P.",
)
@click.option("--max-reads", "reads_most", type=click.IntRange(1), default=400, show_default=True)
@click.option("--max-writes", "writes_most", type=click.IntRange(1), default=200, show_default=True)
@click.pass_context
def apiserver(
    ctx: click.Context,
    data_dir: Path,
    listen: str,
    store: str,
    service_cidr: str,
    advertise: str,
    names: tuple[str, ...],
    token_file: Path | None,
    anonymous: bool,
    insecure_listen: str,
    audit_log: Path | None,
    reads_most: int,
    writes_most: int,
    etcd_endpoints: str,
    etcd_root: str,
    etcd_ca: Path | None,
    etcd_cert: Path | None,
    etcd_key: Path | None,
    misbehave: str,
) -> None:
    """Serve the Kubernetes API, until SIGTERM.

    The first start makes an authority, certificates and DIR/admin.kubeconfig.

    \b
        kubenet apiserver --data-dir DIR
        kubectl --kubeconfig DIR/admin.kubeconfig get namespaces
    """
    options = Options(
        data_dir=data_dir,
        listen=listen,
        insecure_listen=insecure_listen,
        store=store,
        service_cidr=service_cidr,
        advertise=advertise,
        names=names,
        token_file=token_file,
        anonymous=anonymous,
        audit_log=audit_log,
        reads_most=reads_most,
        writes_most=writes_most,
        misbehave=misbehave,
        etcd=EtcdOptions(etcd_endpoints, etcd_root, etcd_ca, etcd_cert, etcd_key),
    )
    ctx.obj = options
    if ctx.invoked_subcommand is None:
        import asyncio

        asyncio.run(_serve(options))


@apiserver.command()
@click.option("--user", required=True, help="The user's name, such as system:node:node-1.")
@click.option("--group", "groups", multiple=True, help="Such as system:nodes. Repeat.")
@click.pass_obj
def kubeconfig(options: Options, user: str, groups: tuple[str, ...]) -> None:
    """Print a kubeconfig with a new client certificate, good for a year.

    What the user may do is up to roles and bindings.
    """
    from kubenet.apiserver.pki import Identity

    directory = _data_dir(options)
    click.echo(directory.kubeconfig(Identity(user, groups), f"https://{_advertised(options)}"), nl=False)


@apiserver.command()
@click.pass_obj
def migrate(options: Options) -> None:
    """Copy the SQLite store of the data directory into an empty etcd.

    The order of changes is kept, and resourceVersions go on where they were. The server must be stopped.
    """
    import asyncio

    count = asyncio.run(_migrate(options))
    click.echo(
        f"{count} objects are in etcd; next: kubenet apiserver --data-dir {options.data_dir} --store etcd"
    )


async def _migrate(options: Options) -> int:
    from kubenet.store.etcd import EtcdStore
    from kubenet.store.migrate import migrate as copy
    from kubenet.store.sqlite import SqliteStore

    directory = _data_dir(options)
    if not directory.store.exists():
        raise InvalidInput(f"{directory.store}: no such store", "name the data directory of the server")
    source = await SqliteStore.open(directory.store)
    try:
        target = await EtcdStore.open(_etcd_config(options.etcd))
        try:
            return await copy(source, target)
        finally:
            await target.close()
    finally:
        await source.close()


def _etcd_config(etcd: EtcdOptions) -> "EtcdConfig":
    from kubenet.store.etcd import EtcdConfig

    endpoints = tuple(part.strip() for part in etcd.endpoints.split(",") if part.strip())
    ca, cert, key = (_content(path) for path in (etcd.ca, etcd.cert, etcd.key))
    return EtcdConfig(endpoints, etcd.root, ca, cert, key)


def _content(path: Path | None) -> bytes:
    try:
        return path.read_bytes() if path else b""
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read: {error.strerror}") from None


def _data_dir(options: Options) -> "DataDir":
    from kubenet.apiserver.datadir import DataDir
    from kubenet.clock import SystemClock

    directory = DataDir(options.data_dir.absolute(), SystemClock())
    directory.prepare()
    return directory


async def _serve(options: Options) -> None:
    import asyncio
    import signal

    from kubenet.apiserver.authenticator import Credentials
    from kubenet.apiserver.datadir import read_tokens
    from kubenet.apiserver.gate import Access
    from kubenet.apiserver.http import ApiServer, ServerConfig
    from kubenet.apiserver.misbehaviour import parse_misbehaviour

    config = ServerConfig(
        service_cidr=_network(options.service_cidr),
        advertised_port=_port(options),
        misbehaviour=parse_misbehaviour(options.misbehave) if options.misbehave else None,
    )
    directory = _data_dir(options)
    tokens = read_tokens(options.token_file) if options.token_file else {}
    credentials = Credentials(directory.token_key(), tokens, options.anonymous)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with _audit(options.audit_log) as audit:
        access = Access(credentials, options.reads_most, options.writes_most, audit)
        async with _opened_store(options, directory) as store:
            server = ApiServer(store, config, access=access)
            await server.start(_listeners(options, directory))
            try:
                address = f"https://{_advertised(options)}"
                directory.write_admin_kubeconfig(address)
                click.echo(
                    f"serving on {address}; next: kubectl --kubeconfig {directory.admin_kubeconfig} get ns"
                )
                await stop.wait()
            finally:
                await server.stop()


@contextlib.asynccontextmanager
async def _opened_store(options: Options, directory: "DataDir") -> "AsyncIterator[Store]":
    store: Store
    if options.store == "memory":
        from kubenet.store.memory import MemoryStore

        store = MemoryStore()
    elif options.store == "etcd":
        from kubenet.store.etcd import EtcdStore

        store = await EtcdStore.open(_etcd_config(options.etcd))
    else:
        from kubenet.store.sqlite import SqliteStore

        store = await SqliteStore.open(directory.store)
    try:
        yield store
    finally:
        await store.close()


@contextlib.contextmanager
def _audit(path: Path | None) -> "Iterator[TextIO | None]":
    if path is None:
        yield None
        return
    try:
        file = path.open("a")
    except OSError as error:
        raise InvalidInput(f"--audit-log {path}: {error.strerror}") from None
    with file:
        yield file


def _listeners(options: Options, directory: "DataDir") -> "list[Listener]":
    from kubenet.apiserver.http import Listener

    host, port = _endpoint(options.listen, "--listen")
    advertised, _ = _endpoint(_advertised(options), "--advertise")
    hosts = [host, advertised, _first_address(options.service_cidr), *options.names]
    tls = directory.server_tls(name for name in hosts if name not in ("0.0.0.0", "::"))
    listeners = [Listener(_tcp(host, port, options.listen), tls)]
    if options.insecure_listen:
        listeners.append(Listener(_plain(options.insecure_listen)))
    return listeners


def _tcp(host: str, port: int, text: str) -> "socket.socket":
    import socket

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        raise InvalidInput(f"{text}: {error.strerror or error}", "choose another address or port") from None


def _plain(text: str) -> "socket.socket":
    """Return a listening socket that nobody outside this machine reaches. Raises InvalidInput."""
    import os
    import socket
    from ipaddress import ip_address

    if text.startswith("unix:"):
        path = Path(text.removeprefix("unix:"))
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            path.unlink(missing_ok=True)
            listener.bind(str(path))
        except OSError as error:
            listener.close()
            raise InvalidInput(f"--insecure-listen {text}: {error.strerror}") from None
        finally:
            os.umask(before)
        listener.listen(512)
        return listener
    host, port = _endpoint(text, "--insecure-listen")
    with contextlib.suppress(ValueError):
        if ip_address(host).is_loopback:
            return _tcp(host, port, f"--insecure-listen {text}")
    raise InvalidInput(f"--insecure-listen {text}: not a loopback address", "use 127.0.0.1:PORT or unix:PATH")


def _advertised(options: Options) -> str:
    host, port = _endpoint(options.advertise or options.listen, "--advertise")
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{shown}]:{port}" if ":" in shown else f"{shown}:{port}"


def _port(options: Options) -> int:
    return _endpoint(options.listen, "--listen")[1]


def _endpoint(text: str, option: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise InvalidInput(f"{option} {text}: not HOST:PORT")
    return host.strip("[]"), int(port)


def _network(text: str) -> "IPv4Network":
    from ipaddress import IPv4Network

    try:
        return IPv4Network(text)
    except ValueError as error:
        raise InvalidInput(f"--service-cidr {text}: {error}") from None


def _first_address(cidr: str) -> str:
    return str(_network(cidr).network_address + 1)
