"""Is it repaired? The four parts of a verdict. *Pure.*

The symptom is gone, the cause is gone, nothing else is broken, and no forbidden short cut was taken. An
exercise is passed only with all four: a restarted pod makes many symptoms go away for an hour.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Witnessed:
    """What must not have changed on the way: who the pods are, and whose packet filters stand."""

    pods: Mapping[str, str]  # name -> uid
    tables: frozenset[str]  # "node-1 ip kubenet-proxy"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What ``kubenet break check`` says; each part lists what speaks against it."""

    symptom: Sequence[str] = field(default_factory=tuple)
    cause: Sequence[str] = field(default_factory=tuple)
    scope: Sequence[str] = field(default_factory=tuple)
    shortcuts: Sequence[str] = field(default_factory=tuple)

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against it."""
        return not (self.symptom or self.cause or self.scope or self.shortcuts)

    def parts(self) -> tuple[tuple[str, Sequence[str]], ...]:
        """Return each part's name with what speaks against it."""
        return (
            ("symptom", self.symptom),
            ("cause", self.cause),
            ("scope", self.scope),
            ("shortcuts", self.shortcuts),
        )


def shortcuts(before: Witnessed, now: Witnessed) -> list[str]:
    """Return the forbidden short cuts that were taken since ``before``."""
    found = [
        f"pod {name} was {'replaced' if name in now.pods else 'deleted'}, not repaired"
        for name, uid in sorted(before.pods.items())
        if now.pods.get(name) != uid
    ]
    return found + [
        f"the packet filter '{table}' was removed" for table in sorted(before.tables - now.tables)
    ]
