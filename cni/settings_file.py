"""Read the administrator's file whenever it is another one."""

import logging
from pathlib import Path

from cni.settings import Settings, read_settings
from kubenet.errors import InvalidInput

log = logging.getLogger(__name__)


class SettingsFile:
    """The administrator's file, read again whenever it is another one; a broken one changes nothing."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._settings = Settings()
        self._seen: tuple[int, ...] | None = None

    def changed(self) -> bool:
        return self._stamp() != self._seen

    def current(self) -> Settings:
        stamp = self._stamp()
        if stamp == self._seen or self._path is None:
            return self._settings
        self._seen = stamp
        try:
            self._settings = read_settings(self._path.read_text(), str(self._path)) if stamp else Settings()
            log.info("cni: settings of %s: %s", self._path, self._settings)
        except (OSError, UnicodeDecodeError) as error:
            log.warning("cni: %s cannot be read, what was read before holds: %s", self._path, error)
        except InvalidInput as error:
            log.warning("cni: %s; what was read before holds", error)
        return self._settings

    def _stamp(self) -> tuple[int, ...] | None:
        """Return what differs when the file is another one; empty when there is none."""
        if self._path is None:
            return None
        try:
            status = self._path.stat()
        except OSError:
            return ()
        return status.st_ino, status.st_size, status.st_mtime_ns
