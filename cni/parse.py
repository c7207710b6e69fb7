"""Make a ``Request`` that cannot be wrong of environment and configuration, or a numbered error. *Pure.*

Source: CNI specification 1.1.0, section 2.
"""

import re
from collections.abc import Mapping

import msgspec

from cni.conf import Collection, Config, Name, Version, is_true, part, with_config
from cni.spec import LATEST, VERSIONS, Attachment, CniError, Code, Command, Request

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_IFNAME_BYTES = 15  # IFNAMSIZ of linux/if.h without the closing NUL
_SINCE = {Command.CHECK: "0.4.0", Command.STATUS: "1.1.0", Command.GC: "1.1.0"}
_REQUIRED = {
    Command.ADD: ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    Command.CHECK: ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    Command.DEL: ("CNI_CONTAINERID", "CNI_IFNAME"),
}


def parse(environment: Mapping[str, str], stdin: bytes) -> Request:
    """Return what the runtime asks for. Raises CniError."""
    command = _command(environment)
    _check_environment(command, environment)
    if command is Command.DEL and not stdin.strip():
        # Whoever lost the configuration can still clean up: nothing of it is needed.
        return _attachment_request(command, LATEST, "", environment)
    version = _version(command, stdin)
    if command in (Command.STATUS, Command.VERSION):
        return Request(command, version)
    network = _network_name(stdin)
    if command is Command.GC:
        return Request(command, version, network, valid=_valid_attachments(stdin))
    request = _attachment_request(command, version, network, environment)
    return request if command is Command.DEL else with_config(request, part(stdin, Config), environment)


def version_for_errors(stdin: bytes) -> str:
    """Return the version to answer a broken request in: the one it was asked in, if we speak it."""
    try:
        version = msgspec.json.decode(stdin, type=Version).cni_version
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return LATEST
    return version if version in VERSIONS else LATEST


def _command(environment: Mapping[str, str]) -> Command:
    word = environment.get("CNI_COMMAND", "")
    try:
        return Command(word)
    except ValueError as error:
        raise CniError(
            Code.INVALID_ENVIRONMENT,
            f"CNI_COMMAND {word!r} is unknown",
            f"known are {', '.join(command.value for command in Command)}",
        ) from error


def _check_environment(command: Command, environment: Mapping[str, str]) -> None:
    missing = [key for key in _REQUIRED.get(command, ()) if not environment.get(key)]
    if missing:
        raise CniError(
            Code.INVALID_ENVIRONMENT,
            f"{command.value} needs {', '.join(missing)}",
            "required environment variables are missing or empty",
        )
    if command in _REQUIRED:
        _check_container_id(environment["CNI_CONTAINERID"])
        _check_ifname(environment["CNI_IFNAME"])


def _check_container_id(container_id: str) -> None:
    if not _NAME.fullmatch(container_id):
        raise CniError(
            Code.INVALID_ENVIRONMENT,
            f"CNI_CONTAINERID {container_id!r} is no container id",
            "it starts with a letter or digit, and letters, digits, '_', '.' and '-' follow",
        )


def _check_ifname(ifname: str) -> None:
    length = len(ifname.encode(errors="replace"))
    bad = next((c for c in ifname if c in "/:\0" or c.isspace()), None)
    reason = ""
    if ifname in (".", ".."):
        reason = "that is a directory"
    elif length > _IFNAME_BYTES:
        reason = f"it has {length} bytes, and {_IFNAME_BYTES} are allowed"
    elif bad is not None:
        reason = f"{bad!r} is not allowed"
    if reason:
        raise CniError(
            Code.INVALID_ENVIRONMENT, f"CNI_IFNAME {ifname!r} cannot be an interface's name", reason
        )


def _version(command: Command, stdin: bytes) -> str:
    version = part(stdin, Version).cni_version
    if command is Command.VERSION:
        return version
    known = VERSIONS[VERSIONS.index(_SINCE.get(command, VERSIONS[0])) :]
    if version not in known:
        raise CniError(
            Code.INCOMPATIBLE_VERSION,
            f"cniVersion {version!r} is not supported"
            + (f" by {command.value}" if command in _SINCE else ""),
            f"supported are {', '.join(known)}",
        )
    return version


def _network_name(stdin: bytes) -> str:
    name = part(stdin, Name).name
    if not _NAME.fullmatch(name):
        raise CniError(
            Code.INVALID_CONFIG,
            f"the network's name {name!r} is invalid" if name else "the network has no name",
            "it starts with a letter or digit, and letters, digits, '_', '.' and '-' follow",
        )
    return name


def _valid_attachments(stdin: bytes) -> frozenset[Attachment]:
    """Runtimes send the list under two keys; what either of them names stays."""
    told = part(stdin, Collection)
    if told.valid is None and told.attachments is None:
        raise CniError(
            Code.INVALID_CONFIG,
            "GC without cni.dev/valid-attachments",
            "an absent list frees nothing; an empty one frees everything of the network",
        )
    listed = (*(told.valid or ()), *(told.attachments or ()))
    return frozenset(Attachment(entry.container_id, entry.ifname) for entry in listed)


def _attachment_request(
    command: Command, version: str, network: str, environment: Mapping[str, str]
) -> Request:
    return Request(
        command,
        version,
        network,
        container_id=environment["CNI_CONTAINERID"],
        ifname=environment["CNI_IFNAME"],
        netns=environment.get("CNI_NETNS", ""),
        own_netns_allowed=is_true(environment.get("CNI_NETNS_OVERRIDE", "")),
    )
