"""Turn this process into another program inside a namespace: what ``kubenet lab exec`` does last.

Source: setns(2), execve(2).
"""

import os
from collections.abc import Sequence
from typing import NoReturn

from kubenet.errors import NotPermitted, ProgramMissing
from kubenet.kernel.netns import NetNs


def become(argv: Sequence[str], netns: NetNs) -> NoReturn:
    """Replace this process by ``argv`` in ``netns``; the environment and the terminal stay the user's.

    Raises ProgramMissing, NotPermitted.
    """
    with netns.entered():  # left only if there is no such program: a successful exec does not come back
        try:
            os.execvp(argv[0], list(argv))  # noqa: S606 - no shell is the point
        except FileNotFoundError as error:
            raise ProgramMissing(f"{argv[0]}: no such program on this machine") from error
        except PermissionError as error:
            raise NotPermitted(
                f"{argv[0]}: {error.strerror}", "give a program that may be executed"
            ) from error
