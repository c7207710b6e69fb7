"""What is remembered of a game between commands: ``exercise.json`` in the lab's directory.

Written before anything is broken, with all that is needed to take it back.
"""

import msgspec

from kubenet.errors import NotFound
from labs.cast import Facts
from labs.ledger import LabDirectory


class Broken(msgspec.Struct, frozen=True):
    """One exercise that was begun."""

    exercise: str
    saved: tuple[tuple[str, ...], ...]  # what each fault read before it was done


class State(msgspec.Struct, frozen=True):
    """A game."""

    broken: tuple[Broken, ...]
    seed: int
    hidden: bool
    began_s: float  # time.time()
    pods: dict[str, str]  # name -> uid, of the pods that must live on
    tables: tuple[str, ...]  # packet filters that must stand
    facts: Facts
    hints_used: int = 0


class Scorebook:
    """The file of one lab."""

    def __init__(self, lab: LabDirectory) -> None:
        self._lab = lab.name
        self._path = lab.path / "exercise.json"

    @property
    def begun(self) -> bool:
        """Whether a game is going on."""
        return self._path.exists()

    def read(self) -> State:
        """Return the game that is going on. Raises NotFound."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=State, dec_hook=_revive)
        except FileNotFoundError:
            raise NotFound(f"lab {self._lab!r}: no exercise was begun", "kubenet break start NAME") from None

    def write(self, state: State) -> None:
        """Remember ``state``, in one step."""
        fresh = self._path.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(state, enc_hook=str))
        fresh.rename(self._path)

    def close(self) -> None:
        """The game is over."""
        self._path.unlink(missing_ok=True)


def _revive(kind: type, text: object) -> object:
    return kind(text)
