"""Drive any CNI plugins as libcni does: whole lists, with the cache that DEL, CHECK and GC need.

An ADD runs the plugins in order, each with the result of the one before, and keeps the last result in a file
of libcni's form. A DEL runs them in the reverse order with that result and, as libcni does, stops at the
first that fails; the file then stays, so that it can be repeated.

Source: CNI specification 1.1.0 sections 3 and 4; libcni's ``cniCacheV1``.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from kubenet.errors import InvalidInput, KubenetError, NotFound
from kubenet.kernel.netns import NetNs
from kubenet.kernel.run import ENVIRONMENT, Completed, run
from kubenet.model.objects import Json, JsonValue
from kubenet.node.cni_conf import (
    NEWEST,
    Attachment,
    NetworkConfigInvalid,
    NetworkList,
    chosen_file,
    parse_network,
    plugin_error,
    plugin_stdin,
)

PLUGIN_TIMEOUT_S = 60.0
_KIND = "cniCacheV1"
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]*")


class NetworkNotReady(KubenetError):
    """There is no network configuration yet."""


class PluginFailed(KubenetError):
    """A plugin refused, or could not do, what it was told."""


class Cached(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is remembered of one attachment."""

    kind: str
    container_id: str = msgspec.field(name="containerId")
    config: bytes  # the list; in base64, as libcni writes it
    ifname: str = msgspec.field(name="ifName")
    network: str = msgspec.field(name="networkName")
    netns: str = ""
    args: tuple[tuple[str, str], ...] = msgspec.field(name="cniArgs", default=())
    capabilities: dict[str, Any] = msgspec.field(name="capabilityArgs", default={})
    result: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Network:
    """A network, and the file that told of it."""

    conf: NetworkList
    content: bytes


def load_network(path: Path) -> Network:
    """Return the network in a file, or in the first file of a directory.

    Raises NetworkNotReady, NetworkConfigInvalid.
    """
    if path.is_dir():
        name = chosen_file([entry.name for entry in path.iterdir()])
        if name is None:
            raise NetworkNotReady(f"no CNI configuration in {path}")
        path = path / name
    try:
        content = path.read_bytes()
    except OSError as error:
        raise NetworkNotReady(f"{path}: {error.strerror}") from error
    conf = parse_network(content, str(path))
    return Network(conf if conf.inlined_only else _with_directory(conf, path.parent / conf.name), content)


def _with_directory(conf: NetworkList, directory: Path) -> NetworkList:
    """Return the network with the plugins whose files lie in the directory of its name."""
    paths = sorted(directory.glob("*.conf")) if directory.is_dir() else []
    more = [_plugin_in(path, conf.name) for path in paths]
    if not (plugins := (*conf.plugins, *more)):
        raise NetworkConfigInvalid(f"{directory}: the network {conf.name} has no plugin")
    return replace(conf, plugins=plugins, inlined_only=True)


def _plugin_in(path: Path, name: str) -> Json:
    content = path.read_bytes()
    try:
        content = msgspec.json.encode({"name": name, **msgspec.json.decode(content, type=dict)})
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass  # the next line says what is wrong with it
    return parse_network(content, str(path)).plugins[0]


@dataclass(frozen=True, slots=True)
class _Told:
    """What all plugins of a list are told beside their own configuration."""

    conf: NetworkList
    environment: Callable[[str, str], dict[str, str]]
    result: JsonValue
    capabilities: Json


class CniRuntime:
    """Executes the plugins in ``bin_dirs``, in ``netns`` or where the calling thread is. Blocking."""

    def __init__(self, bin_dirs: tuple[Path, ...], cache_dir: Path, netns: NetNs | None = None) -> None:
        self._bin_dirs = bin_dirs
        self._results = cache_dir / "results"
        self._netns = netns

    def add(self, network: Network, attachment: Attachment, capabilities: Json) -> Json:
        """Return the result of attaching. Raises PluginFailed."""
        result: JsonValue = None
        for plugin in network.conf.plugins:
            told = _Told(network.conf, attachment.environment, result, capabilities)
            result = _decoded(self._execute("ADD", plugin, told), str(plugin["type"]))
        assert isinstance(result, dict)
        cached = Cached(
            _KIND,
            attachment.container_id,
            _whole(network),
            attachment.ifname,
            network.conf.name,
            attachment.netns,
            attachment.more_args,
            capabilities,
            result,
        )
        path = self._path(network.conf.name, attachment)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.encode(cached))
        return result

    def delete(self, network: Network, attachment: Attachment) -> None:
        """Detach by the list of the ADD, whatever the network's is by now; what was never attached is fine.

        Raises PluginFailed.
        """
        path = self._path(network.conf.name, attachment)
        cached = _cached(path)
        if cached is None:
            told = _Told(network.conf, attachment.environment, None, {})
        else:
            told = _Told(_conf_of(cached, path), attachment.environment, cached.result, cached.capabilities)
        for plugin in reversed(told.conf.plugins):
            self._execute("DEL", plugin, told)
        path.unlink(missing_ok=True)

    def detach(self, attachment: Attachment, conf_dir: Path) -> None:
        """Detach from whichever network it is on; if that is not known, from the one in ``conf_dir``.

        Raises PluginFailed; NetworkNotReady, NetworkConfigInvalid if that one is asked for.
        """
        ending = f"-{attachment.container_id}-{attachment.ifname}"
        paths = list(self._results.iterdir()) if self._results.is_dir() else []
        kept = [cached for path in paths if path.name.endswith(ending) and (cached := _cached(path))]
        networks = [Network(_conf_of(cached, self._results), cached.config) for cached in kept]
        for network in networks or [load_network(conf_dir)]:
            self.delete(network, attachment)

    def check(self, network: Network, attachment: Attachment) -> None:
        """Return if the attachment is as it was made. Raises PluginFailed, NotFound without a result."""
        if network.conf.check_disabled:
            return
        if not network.conf.checkable:
            raise InvalidInput(f"CNI {network.conf.cni_version} of {network.conf.name} has no CHECK")
        cached = _cached(self._path(network.conf.name, attachment))
        if cached is None:
            raise NotFound(f"{attachment.container_id} {attachment.ifname}: no result of an ADD is kept")
        conf = _conf_of(cached, self._path(network.conf.name, attachment))
        told = _Told(conf, attachment.environment, cached.result, cached.capabilities)
        for plugin in conf.plugins:
            self._execute("CHECK", plugin, told)

    def collect(self, network: Network, valid: Iterable[tuple[str, str]]) -> None:
        """Delete what is attached and not in ``valid``, then tell the plugins; goes on after errors.

        Raises PluginFailed with all of them.
        """
        if network.conf.gc_disabled:
            return
        kept = frozenset(valid)
        failed: list[str] = []
        for cached in self._attached(network.conf.name):
            if (cached.container_id, cached.ifname) not in kept:
                failed += _failure(self.delete, network, _attachment_of(cached))
        if network.conf.speaks_gc:
            listed: list[JsonValue] = [{"containerID": one, "ifname": other} for one, other in sorted(kept)]
            more: Json = {"cni.dev/valid-attachments": listed, "cni.dev/attachments": listed}
            for plugin in network.conf.plugins:
                failed += _failure(self._tell, "GC", {**plugin, **more}, network.conf)
        if failed:
            raise PluginFailed("; ".join(failed))

    def status(self, network: Network) -> None:
        """Return if every plugin can add pods; older versions cannot be asked. Raises PluginFailed."""
        if network.conf.speaks_gc:
            for plugin in network.conf.plugins:
                self._tell("STATUS", plugin, network.conf)

    def versions(self, plugin: str) -> tuple[str, ...]:
        """Return the versions that a plugin speaks. Raises PluginFailed."""
        conf = NetworkList("version", NEWEST, ({"type": plugin},))
        done = self._tell("VERSION", conf.plugins[0], conf)
        try:
            return msgspec.json.decode(done.stdout, type=_Versions).supported
        except msgspec.DecodeError as error:
            raise PluginFailed(f"CNI VERSION by {plugin}: {error}") from error

    def _tell(self, command: str, plugin: Json, conf: NetworkList) -> Completed:
        return self._execute(command, plugin, _Told(conf, _bare_environment, None, {}))

    def _execute(self, command: str, plugin: Json, told: _Told) -> Completed:
        path = self._find(str(plugin["type"]))
        cni_path = ":".join(map(str, self._bin_dirs))
        done = run(
            [path],
            netns=self._netns,
            stdin=plugin_stdin(told.conf, plugin, told.result, told.capabilities),
            env={**ENVIRONMENT, **told.environment(command, cni_path)},
            timeout_s=PLUGIN_TIMEOUT_S,
            check=False,
        )
        if done.returncode != 0:
            why = plugin_error(done.stdout, done.stderr, done.returncode)
            raise PluginFailed(f"CNI {command} by {path.name}: {why}")
        return done

    def _find(self, plugin: str) -> Path:
        for directory in self._bin_dirs:
            if (directory / plugin).is_file():
                return directory / plugin
        raise PluginFailed(f"{plugin}: no such plugin in {', '.join(map(str, self._bin_dirs))}")

    def _path(self, network: str, attachment: Attachment) -> Path:
        name = f"{network}-{attachment.container_id}-{attachment.ifname}"
        if not _FILE_NAME.fullmatch(name):
            raise InvalidInput(f"{name!r} cannot be the name of a file", "use letters, digits, '_', '.', '-'")
        return self._results / name

    def _attached(self, network: str) -> list[Cached]:
        paths = sorted(self._results.iterdir()) if self._results.is_dir() else []
        found = [cached for path in paths if (cached := _cached(path))]
        return [cached for cached in found if cached.network == network]


class _Versions(msgspec.Struct, frozen=True):
    supported: tuple[str, ...] = msgspec.field(name="supportedVersions", default=())


def _bare_environment(command: str, cni_path: str) -> dict[str, str]:
    return {"CNI_COMMAND": command, "CNI_PATH": cni_path}


def _attachment_of(cached: Cached) -> Attachment:
    return Attachment(cached.container_id, cached.netns, cached.ifname, "", "", "", cached.args)


def _cached(path: Path) -> Cached | None:
    """Return what is kept in a file; None if there is nothing that we understand."""
    try:
        cached = msgspec.json.decode(path.read_bytes(), type=Cached)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    return cached if cached.kind == _KIND else None


def _whole(network: Network) -> bytes:
    """Return the list as it was run: also with the plugins of the network's own directory."""
    written = msgspec.json.decode(network.content, type=dict)
    if list(network.conf.plugins) == written.get("plugins", [written]):
        return network.content
    return msgspec.json.encode(
        {**written, "plugins": list(network.conf.plugins), "loadOnlyInlinedPlugins": True}
    )


def _conf_of(cached: Cached, path: Path) -> NetworkList:
    """Return the list of the ADD. Raises NetworkConfigInvalid."""
    return parse_network(cached.config, str(path))


def _failure(act: Callable[..., object], *arguments: object) -> list[str]:
    try:
        act(*arguments)
    except KubenetError as error:
        return [str(error)]
    return []


def _decoded(done: Completed, plugin: str) -> Json:
    try:
        return msgspec.json.decode(done.stdout, type=dict)
    except msgspec.DecodeError as error:
        raise PluginFailed(f"CNI ADD by {plugin}: its result is not JSON: {error}") from error
