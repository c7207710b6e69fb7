"""CNI as a runtime speaks it: which configuration counts, and what each plugin of its list is told. *Pure.*

Source: CNI specification 1.1.0 sections 1 (configuration), 2 (execution protocol), 3 (execution of lists).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from kubenet.errors import KubenetError
from kubenet.model.objects import Json, JsonValue

NEWEST = "1.1.0"  # the newest version of the protocol that we speak as a runtime
_ORDER = re.compile(r"\d+\.\d+\.\d+")

SUFFIXES = (".conflist", ".conf", ".json")

# A type is the name of a file in the plugin directory, and never a path to somewhere else (CVE-2021-20206).
_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class NetworkConfigInvalid(KubenetError):
    """A network configuration that no runtime can use."""


@dataclass(frozen=True, slots=True)
class NetworkList:
    """A network: its plugins run in this order on ADD, and in the reverse order on DEL."""

    name: str
    cni_version: str
    plugins: tuple[Json, ...]
    check_disabled: bool = False
    gc_disabled: bool = False
    inlined_only: bool = True  # plugins in the directory named after the network do not count

    @property
    def checkable(self) -> bool:
        return not self.check_disabled and _at_least(self.cni_version, "0.4.0")

    @property
    def speaks_gc(self) -> bool:
        # GC and STATUS came together.
        return _at_least(self.cni_version, "1.1.0")


@dataclass(frozen=True, slots=True)
class Attachment:
    """One interface of one pod."""

    container_id: str
    netns: str  # path; empty on a DEL whose namespace is gone
    ifname: str
    pod_namespace: str
    pod_name: str
    pod_uid: str
    more_args: tuple[tuple[str, str], ...] = ()  # further entries of CNI_ARGS

    def environment(self, command: str, cni_path: str) -> dict[str, str]:
        """Return what a plugin finds in its environment."""
        args = {
            "IgnoreUnknown": "1",
            "K8S_POD_NAMESPACE": self.pod_namespace,
            "K8S_POD_NAME": self.pod_name,
            "K8S_POD_INFRA_CONTAINER_ID": self.container_id,
            "K8S_POD_UID": self.pod_uid,
            **dict(self.more_args),
        }
        if not self.pod_name:
            args = dict(self.more_args)  # no Kubernetes here
        return {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": self.container_id,
            "CNI_NETNS": self.netns,
            "CNI_IFNAME": self.ifname,
            "CNI_PATH": cni_path,
            "CNI_ARGS": ";".join(f"{key}={value}" for key, value in args.items()),
        }


def chosen_file(names: Iterable[str]) -> str | None:
    """Return the file that counts: of those with a right suffix, the first by name."""
    return min((name for name in names if name.endswith(SUFFIXES)), default=None)


def parse_network(content: bytes, source: str) -> NetworkList:
    """Return the network that ``content`` describes; a single plugin is a list of one.

    Of the versions that it offers, the newest that we speak counts.

    Raises NetworkConfigInvalid, naming ``source``.
    """
    try:
        conf = msgspec.json.decode(content, type=_Conf)
        chain: tuple[Json, ...] = conf.plugins or (msgspec.json.decode(content, type=dict),)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NetworkConfigInvalid(f"{source}: {error}", f"correct {source}") from None
    if not conf.name or (conf.plugins == () and conf.load_only_inlined_plugins):
        raise NetworkConfigInvalid(f"{source}: has no name or no plugins", f"correct {source}")
    for plugin in chain:
        if not _TYPE.fullmatch(str(plugin.get("type", ""))):
            raise NetworkConfigInvalid(
                f"{source}: not a plugin type: {plugin.get('type')!r}", f"correct {source}"
            )
    return NetworkList(
        conf.name,
        newest_spoken((conf.cniVersion, *conf.cniVersions)) or conf.cniVersion,
        chain,
        _is_set(conf.disableCheck, f"{source}: disableCheck"),
        _is_set(conf.disableGC, f"{source}: disableGC"),
        conf.load_only_inlined_plugins,
    )


def newest_spoken(versions: Iterable[str]) -> str:
    """Return the newest of ``versions`` that is not newer than ours; an empty string if all are."""
    spoken = [version for version in versions if _ORDER.fullmatch(version) and not _newer(version)]
    return max(spoken, key=_numbers, default="")


def _newer(version: str) -> bool:
    return _numbers(version) > _numbers(NEWEST)


def _at_least(version: str, least: str) -> bool:
    return _ORDER.fullmatch(version) is not None and _numbers(version) >= _numbers(least)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _is_set(value: bool | str, what: str) -> bool:
    """Return a switch that may be written as a string, as libcni allows."""
    words = {"true": True, "1": True, "false": False, "0": False, "": False}
    if isinstance(value, bool):
        return value
    if value.lower() not in words:
        raise NetworkConfigInvalid(f"{what}: {value!r} is neither true nor false")
    return words[value.lower()]


def plugin_stdin(
    network: NetworkList, plugin: Mapping[str, JsonValue], prev_result: JsonValue, capabilities: Json
) -> bytes:
    """Return what one plugin reads: its configuration, the network's name and version, and what came before.

    Of ``capabilities`` (the runtime's offers: portMappings, ...) it gets those that it declares.
    """
    declared = plugin.get("capabilities")
    conf: Json = {key: value for key, value in plugin.items() if key != "capabilities"}
    conf |= {"name": network.name, "cniVersion": network.cni_version}
    if isinstance(declared, dict):
        offered = {key: value for key, value in capabilities.items() if declared.get(key) is True}
        if offered:
            conf["runtimeConfig"] = offered
    if prev_result is not None:
        conf["prevResult"] = prev_result
    return msgspec.json.encode(conf)


def plugin_error(stdout: bytes, stderr: bytes, status: int) -> str:
    """Return in words why a plugin failed: its error object, or what it said otherwise."""
    try:
        error = msgspec.json.decode(stdout, type=_ErrorObject)
    except msgspec.DecodeError:
        said = (stderr or stdout).decode(errors="replace").strip()
        return f"status {status}: {said or 'it said nothing'}"
    return f"code {error.code}: {error.msg}" + (f": {error.details}" if error.details else "")


def addresses_of(result: Json) -> list[str]:
    """Return the addresses of a result, without their prefix lengths, in the plugin's order."""
    ips = result.get("ips")
    found = (
        [entry.get("address") for entry in ips if isinstance(entry, dict)] if isinstance(ips, list) else []
    )
    return [address.partition("/")[0] for address in found if isinstance(address, str)]


class _Conf(msgspec.Struct, frozen=True):
    name: str = ""
    cniVersion: str = "0.1.0"  # noqa: N815 - as CNI spells it
    plugins: tuple[dict[str, Any], ...] | None = None  # None: the file is one plugin's own configuration
    cniVersions: tuple[str, ...] = ()  # noqa: N815
    disableCheck: bool | str = False  # noqa: N815
    disableGC: bool | str = False  # noqa: N815
    load_only_inlined_plugins: bool = msgspec.field(name="loadOnlyInlinedPlugins", default=True)


class _ErrorObject(msgspec.Struct, frozen=True):
    code: int
    msg: str = ""
    details: str = ""
