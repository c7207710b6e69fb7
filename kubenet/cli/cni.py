"""``kubenet cni``: drive CNI plugins as a container runtime does, and install ours."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from kubenet.model.objects import JsonValue
    from kubenet.node.cni_conf import Attachment
    from kubenet.node.cni_runtime import CniRuntime

BIN_DIR, CONF_DIR, CACHE_DIR = Path("/opt/cni/bin"), Path("/etc/cni/net.d"), Path("/var/lib/cni")

_conf = click.option(
    "--conf", type=Path, default=CONF_DIR, show_default=True, help="The network's file, or its directory."
)
_bin_dirs = click.option(
    "--bin-dir", "bin_dirs", type=Path, multiple=True, help=f"Where plugins are; repeat. [default: {BIN_DIR}]"
)
_cache_dir = click.option("--cache-dir", type=Path, default=CACHE_DIR, show_default=True)
_ifname = click.option("--ifname", default="eth0", show_default=True)
_args = click.option("--arg", "args", multiple=True, metavar="KEY=VALUE", help="For CNI_ARGS; repeat.")


@click.group()
def cni() -> None:
    """Drive CNI plugins as a container runtime does.

    Each command does to a whole network what a runtime would do, in the namespace that it runs in.
    """


@cni.command()
@click.argument("container_id")
@click.argument("netns")
@_ifname
@_args
@click.option(
    "--capability", "capabilities", multiple=True, metavar="NAME=JSON", help="For runtimeConfig; repeat."
)
@_conf
@_bin_dirs
@_cache_dir
def add(
    container_id: str,
    netns: str,
    ifname: str,
    args: tuple[str, ...],
    capabilities: tuple[str, ...],
    conf: Path,
    bin_dirs: tuple[Path, ...],
    cache_dir: Path,
) -> None:
    """Attach the container whose network namespace is at NETNS, and print the result.

    kubenet cni add web /run/netns/web --capability 'portMappings=[{"hostPort":8080,"containerPort":80}]'
    """
    import msgspec

    from kubenet.node.cni_runtime import load_network

    offered = {key: _json(value, key) for key, value in map(_pair, capabilities)}
    attachment = _attachment(container_id, netns, ifname, args)
    result = _runtime(bin_dirs, cache_dir).add(load_network(conf), attachment, offered)
    print(msgspec.json.format(msgspec.json.encode(result), indent=2).decode())


@cni.command("del")
@click.argument("container_id")
@click.argument("netns", default="")
@_ifname
@_args
@_conf
@_bin_dirs
@_cache_dir
def delete(
    container_id: str,
    netns: str,
    ifname: str,
    args: tuple[str, ...],
    conf: Path,
    bin_dirs: tuple[Path, ...],
    cache_dir: Path,
) -> None:
    """Detach the container; its namespace may be gone."""
    from kubenet.node.cni_runtime import load_network

    attachment = _attachment(container_id, netns, ifname, args)
    _runtime(bin_dirs, cache_dir).delete(load_network(conf), attachment)


@cni.command()
@click.argument("container_id")
@click.argument("netns")
@_ifname
@_args
@_conf
@_bin_dirs
@_cache_dir
def check(
    container_id: str,
    netns: str,
    ifname: str,
    args: tuple[str, ...],
    conf: Path,
    bin_dirs: tuple[Path, ...],
    cache_dir: Path,
) -> None:
    """Ask the plugins whether the container is still attached as it was."""
    from kubenet.node.cni_runtime import load_network

    attachment = _attachment(container_id, netns, ifname, args)
    _runtime(bin_dirs, cache_dir).check(load_network(conf), attachment)
    print(f"{container_id} {ifname}: as it was attached")


@cni.command()
@click.argument("valid", nargs=-1, metavar="[CONTAINER_ID/IFNAME]...")
@_conf
@_bin_dirs
@_cache_dir
def gc(valid: tuple[str, ...], conf: Path, bin_dirs: tuple[Path, ...], cache_dir: Path) -> None:
    """Detach everything of the network but the attachments named."""
    from kubenet.node.cni_runtime import load_network

    parts = (entry.partition("/") for entry in valid)
    kept = [(container_id, ifname or "eth0") for container_id, _, ifname in parts]
    _runtime(bin_dirs, cache_dir).collect(load_network(conf), kept)


@cni.command()
@_conf
@_bin_dirs
@_cache_dir
def status(conf: Path, bin_dirs: tuple[Path, ...], cache_dir: Path) -> None:
    """Ask the plugins whether pods can be added; the exit code says so too."""
    from kubenet.node.cni_runtime import load_network

    network = load_network(conf)
    _runtime(bin_dirs, cache_dir).status(network)
    print(f"{network.conf.name}: ready")


@cni.command()
@click.argument("plugin", default="kubenet")
@_bin_dirs
def version(plugin: str, bin_dirs: tuple[Path, ...]) -> None:
    """Print the versions of the protocol that a plugin speaks."""
    print(" ".join(_runtime(bin_dirs, CACHE_DIR).versions(plugin)))


@cni.command()
@click.option("--bin-dir", type=Path, default=BIN_DIR, show_default=True)
@click.option("--conf-dir", type=Path, default=CONF_DIR, show_default=True)
@click.option("--socket", "socket_path", type=Path, default=Path("/run/kubenet/cni.sock"), show_default=True)
@click.option("--no-conf", is_flag=True, help="The plugin alone: the agent tells of the network itself.")
def install(bin_dir: Path, conf_dir: Path, socket_path: Path, no_conf: bool) -> None:
    """Put the plugin, and then the network's configuration, where a runtime looks for them."""
    from cni.install import PLUGIN, install_conflist, install_plugin

    kind = install_plugin(bin_dir, socket_path)
    print(f"{bin_dir / PLUGIN}: {kind.value} plugin")
    if not no_conf:
        print(install_conflist(conf_dir))


@cni.command()
@click.option("--bin-dir", type=Path, default=BIN_DIR, show_default=True)
@click.option("--conf-dir", type=Path, default=CONF_DIR, show_default=True)
@click.option("--state-dir", type=Path, default=Path("/run/kubenet"), show_default=True)
@click.option("--force", is_flag=True, help="Also while pods are attached: they can then not be deleted.")
def uninstall(bin_dir: Path, conf_dir: Path, state_dir: Path, force: bool) -> None:
    """Take the configuration and the plugins away that install put there."""
    from cni.install import uninstall as take_away
    from ipam.store import RecordStore
    from kubenet.errors import KubenetError

    directory = state_dir / "attachments"
    attached = len(RecordStore(directory).load()[0]) if directory.is_dir() else 0
    if attached and not force:
        raise KubenetError(
            f"{attached} interfaces of pods are attached, and could not be detached without the plugin",
            "drain the node first, or use --force",
        )
    for path in take_away(bin_dir, conf_dir):
        print(f"{path}: removed")


def _runtime(bin_dirs: tuple[Path, ...], cache_dir: Path) -> "CniRuntime":
    from kubenet.node.cni_runtime import CniRuntime

    return CniRuntime(bin_dirs or (BIN_DIR,), cache_dir)


def _attachment(container_id: str, netns: str, ifname: str, args: tuple[str, ...]) -> "Attachment":
    from kubenet.node.cni_conf import Attachment

    return Attachment(container_id, netns, ifname, "", "", "", tuple(map(_pair, args)))


def _pair(text: str) -> tuple[str, str]:
    from kubenet.errors import InvalidInput

    key, equals, value = text.partition("=")
    if not equals:
        raise InvalidInput(f"{text!r} is not KEY=VALUE")
    return key, value


def _json(text: str, key: str) -> "JsonValue":
    import msgspec

    from kubenet.errors import InvalidInput

    try:
        decoded: JsonValue = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise InvalidInput(f"--capability {key}: {error}") from error
    return decoded
