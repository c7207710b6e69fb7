"""The exercises that come with kubenet, and where others may be read from."""

import difflib
import random
from pathlib import Path

from kubenet.errors import NotFound
from labs.exercise import Sheet

DIRECTORY = Path(__file__).parent / "exercises"
INCIDENT_TRACKS = (1, 2, 3, 4)
INCIDENT_FAULTS = 3


def names(directory: Path = DIRECTORY) -> list[str]:
    """Return the exercises by name, in order of track, then of difficulty."""
    found = [sheet(path.parent.name, directory) for path in directory.glob("*/exercise.toml")]
    return [each.id for each in sorted(found, key=lambda each: (each.track, each.minutes, each.id))]


def drawn(track: int | None, seed: int, directory: Path = DIRECTORY) -> str:
    """Return an exercise of a track (None: of any), drawn by ``seed``. Raises NotFound."""
    among = [name for name in names(directory) if track in (None, sheet(name, directory).track)]
    if not among:
        raise NotFound(f"no exercise in track {track}", "kubenet break list")
    return random.Random(seed).choice(among)


def incident(seed: int, directory: Path = DIRECTORY) -> list[str]:
    """Return exercises to begin all at once, of different tracks: so each leaves the others visible."""
    generator = random.Random(seed)
    tracks = generator.sample(INCIDENT_TRACKS, INCIDENT_FAULTS)
    return [drawn(track, generator.randrange(1 << 30), directory) for track in tracks]


def sheet(name: str, directory: Path = DIRECTORY) -> Sheet:
    """Return one exercise. Raises NotFound."""
    known = sorted(path.parent.name for path in directory.glob("*/exercise.toml"))
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        raise NotFound(
            f"no exercise {name!r}{f'; did you mean {near[0]!r}?' if near else ''}", "kubenet break list"
        )
    home = directory / name
    texts = [(home / leaf).read_text() for leaf in ("exercise.toml", "story.md", "solution.md")]
    return Sheet(name, *texts)
