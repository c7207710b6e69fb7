"""The exercises as a course: which were passed, which comes next. Remembered for the user, not for a lab."""

import os
from pathlib import Path

import msgspec

from kubenet.errors import KubenetError, NotFound
from labs import catalogue
from labs.exercise import TRACKS


class Progress(msgspec.Struct, frozen=True):
    """What ``learn.json`` says."""

    passed: tuple[str, ...] = ()
    track: int = 0  # the one that was begun last; 0: none


def path() -> Path:
    """Return where progress is kept: ``$XDG_STATE_HOME/kubenet/learn.json``."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "kubenet" / "learn.json"


def read() -> Progress:
    """Return how far the user has come. Raises KubenetError if the file is damaged."""
    try:
        return msgspec.json.decode(path().read_bytes(), type=Progress)
    except FileNotFoundError:
        return Progress()
    except msgspec.DecodeError as error:
        raise KubenetError(f"{path()}: damaged: {error}", "remove the file to begin again") from error


def write(progress: Progress) -> None:
    """Remember ``progress``, in one step."""
    path().parent.mkdir(parents=True, exist_ok=True)
    fresh = path().with_suffix(".new")
    fresh.write_bytes(msgspec.json.encode(progress))
    fresh.rename(path())


def lessons(track: int) -> list[str]:
    """Return the exercises of a track, the easiest first. Raises NotFound."""
    if track not in TRACKS:
        raise NotFound(f"no track {track}", "kubenet learn list")
    return [name for name in catalogue.names() if catalogue.sheet(name).track == track]


def following(progress: Progress, track: int) -> str:
    """Return the first exercise of a track that was not passed yet. Raises NotFound."""
    for name in lessons(track):
        if name not in progress.passed:
            return name
    raise NotFound(f"track {track} ({TRACKS[track]}): all of it is passed", "kubenet learn list")
