"""The files behind ``hosts``, ``file``, ``auto`` and ``autopath``: read at the start and when they change.

What cannot be read at the start is an error of the configuration. Later, what was there before goes on, and
the error is told.

Source: manual pages of these plugins of CoreDNS.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

from dns import names
from dns.names import WireName
from dns.part import Part
from dns.plugins.files import FilePlugin, origin_of
from dns.plugins.shapes import search_path
from dns.plugins.values import ZoneDirectory, ZoneFile
from dns.settings import Block, Hosts
from dns.zonefile import FileZone, read_zone
from kubenet.errors import InvalidInput, KubenetError

log = logging.getLogger(__name__)


def lines_of(path: str) -> list[str]:
    """Return the lines of a file. Raises InvalidInput."""
    try:
        return Path(path).read_text(errors="replace").splitlines()
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}") from error


def host_lines(hosts: Hosts, *, quietly: bool = False) -> list[str]:
    """Return the lines of the file of ``hosts``; a file that is not there has none, as CoreDNS has it."""
    try:
        return lines_of(hosts.file) if hosts.file else []
    except InvalidInput as error:
        if not quietly:
            log.warning("dns: hosts: %s", error)
        return []


Zones: TypeAlias = dict[WireName, FileZone]
ZoneFiles: TypeAlias = Mapping[ZoneFile | ZoneDirectory, Zones]


def read_zone_files(blocks: Iterable[Block]) -> ZoneFiles:
    """Return what all files of ``file`` and ``auto`` hold. Blocks. Raises InvalidInput."""
    found: dict[ZoneFile | ZoneDirectory, Zones] = {}
    for block in blocks:
        found |= {config: read_file(config) for config in block.files}
        found |= {directory: read_directory(directory) for directory in block.directories}
    return found


class WatchedFiles:
    """The files of one server block; ``zones`` is what they held when the configuration was read.

    Raises InvalidInput for a resolv.conf that is wrong.
    """

    def __init__(self, part: Part, zones: ZoneFiles) -> None:
        self._part = part
        self._tasks: list[asyncio.Task[None]] = []
        self._of_directory: dict[ZoneDirectory, Zones] = {}
        block = part.block
        if block.autopath and block.autopath.resolv_conf:
            part.search_path = search_path(lines_of(block.autopath.resolv_conf))
        if part.files:
            for config in block.files:
                take_zones(part.files, config, zones[config])
            for directory in block.directories:
                self._of_directory[directory] = zones[directory]
                part.files.zones.update(self._of_directory[directory])

    def start(self) -> None:
        """Look at the files from time to time."""
        block, loop = self._part.block, asyncio.get_running_loop()
        if block.hosts and block.hosts.file and block.hosts.reload_s:
            self._tasks.append(loop.create_task(_repeat(block.hosts.reload_s, self._look_at_hosts)))
        for config in block.files:
            if config.reload_s:
                self._tasks.append(loop.create_task(self._follow_file(config)))
        for directory in block.directories:
            if directory.reload_s:
                self._tasks.append(loop.create_task(self._follow_directory(directory)))

    def stop(self) -> None:
        """Look no more."""
        for task in self._tasks:
            task.cancel()

    def _look_at_hosts(self) -> None:
        hosts = self._part.hosts
        if hosts:
            lines = host_lines(hosts.config, quietly=not hosts.lines)
            if lines != hosts.lines:
                hosts.renew(lines)
                self._part.reconsidered()

    async def _follow_file(self, config: ZoneFile) -> None:
        """Take a file again when its SOA serial has changed; reading happens beside the loop."""
        while True:
            await asyncio.sleep(config.reload_s)
            try:
                found = await asyncio.to_thread(read_file, config)
            except KubenetError as error:
                log.error("dns: file: %s; the zone from before stays", error)  # noqa: TRY400
                continue
            if self._part.files:
                take_zones(self._part.files, config, found)

    async def _follow_directory(self, config: ZoneDirectory) -> None:
        while True:
            await asyncio.sleep(config.reload_s)
            try:
                found = await asyncio.to_thread(read_directory, config)
            except KubenetError as error:
                log.error("dns: auto: %s; the zones from before stay", error)  # noqa: TRY400
                continue
            self.take_directory(config, found)

    def take_directory(self, config: ZoneDirectory, found: dict[WireName, FileZone]) -> None:
        """Serve the zones that a directory has now, and no longer those that have gone from it."""
        files, before = self._part.files, self._of_directory.get(config, {})
        if files is None:
            return
        for origin in before.keys() - found.keys():
            files.zones.pop(origin, None)
        for origin, zone in found.items():
            if origin not in before or before[origin].serial != zone.serial:
                log.info("dns: auto: zone %s, serial %d", names.to_text(origin), zone.serial)
                files.zones[origin] = zone
        self._of_directory[config] = {origin: files.zones[origin] for origin in found}


async def _repeat(every_s: float, look: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(every_s)
        look()


def take_zones(files: FilePlugin, config: ZoneFile, found: dict[WireName, FileZone]) -> None:
    """Serve what a file says now, where its SOA serial is another one than before."""
    for origin, zone in found.items():
        known = files.zones.get(origin)
        if known is None or known.serial != zone.serial:
            files.zones[origin] = zone
        if config.fallthrough is not None:
            files.fallthrough[origin] = config.fallthrough


def read_file(config: ZoneFile) -> dict[WireName, FileZone]:
    """Return the zones of one file, the same records for each. Raises InvalidInput."""
    text = "\n".join(lines_of(config.path))
    return {origin: read_zone(text, origin, config.path) for origin in config.zones}


def read_directory(config: ZoneDirectory) -> dict[WireName, FileZone]:
    """Return the zones of the files in a directory. Raises InvalidInput."""
    found: dict[WireName, FileZone] = {}
    try:
        paths = sorted(path for path in Path(config.directory).rglob("*") if path.is_file())
    except OSError as error:
        raise InvalidInput(f"{config.directory}: {error.strerror}") from error
    for path in paths:
        origin = origin_of(config, path.name)
        if origin is not None:
            found[origin] = read_zone("\n".join(lines_of(str(path))), origin, str(path))
    return found
