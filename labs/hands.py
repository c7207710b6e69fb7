"""Carry out the steps of faults and repairs in a running lab."""

import shlex
from collections.abc import Iterable
from http import HTTPStatus
from pathlib import Path

import msgspec

from kubenet.client.errors import ApiError, ObjectNotFound
from kubenet.client.sync import MERGE_PATCH, SyncClient
from kubenet.errors import KubenetError
from kubenet.kernel import sysctl
from kubenet.kernel.run import run
from labs import control
from labs.demo import wait_for
from labs.exercise import Change, Command, Edit, Repair, Restart
from labs.faults.steps import Cause, File, Request, Run, Step, Switch, Sysctl
from labs.places import Places
from labs.report import Order

GONE_WAIT_S = 10.0


class Hands:
    """Acts in one lab."""

    def __init__(self, lab: str, root: Path, places: Places, client: SyncClient) -> None:
        self._lab = lab
        self._root = root
        self._places = places
        self._client = client

    def carry_out(self, steps: Iterable[Step]) -> tuple[str, ...]:
        """Carry out every step, and return what each answered. Raises KubenetError at the first refusal."""
        return tuple(self._carry_out(step) for step in steps)

    def present(self, cause: Cause) -> bool:
        """Whether what a fault broke is broken now."""
        try:
            return cause.present(self._carry_out(cause.ask))
        except KubenetError:  # what was asked for is not there at all
            return cause.unless

    def repair(self, repair: Repair) -> None:
        """Do what a solution says. Raises KubenetError."""
        match repair:
            case Command():
                self._carry_out(Run(repair.at, tuple(shlex.split(repair.run))))
            case Restart():
                self.carry_out([Switch("stop", repair.daemon), Switch("start", repair.daemon)])
            case Change():
                method = "DELETE" if repair.patch is None else "PATCH"
                self._carry_out(Request(method, repair.path, repair.patch))
            case Edit():
                self._carry_out(File(repair.file, repair.text, write=True))

    def _carry_out(self, step: Step) -> str:
        match step:
            case Run():
                return self._run(step)
            case Sysctl():
                return self._sysctl(step)
            case Switch():
                return control.order(self._lab, Order(step.verb, step.daemon), self._root)[step.daemon]
            case Request():
                return self._request(step)
            case File():
                return self._file(step)

    def _run(self, step: Run) -> str:
        with self._places.netns(step.place) as netns:
            done = run(step.argv, netns=netns, stdin=step.stdin.encode(), check=not step.may_fail)
        return done.stdout.decode(errors="replace")

    def _sysctl(self, step: Sysctl) -> str:
        with self._places.netns(step.place) as netns:
            if not step.value:
                return sysctl.read(netns, step.key)
            sysctl.write(netns, step.key, step.value)
        return ""

    def _request(self, step: Request) -> str:
        if step.method == "POST":
            # The last one of this name may still be ending.
            wait_for(f"{step.path} takes it", lambda: self._created(step), GONE_WAIT_S)
            return ""
        body = None if step.body is None else msgspec.json.encode(step.body)
        kind = MERGE_PATCH if step.method == "PATCH" else "application/json"
        try:
            return self._client.request(step.method, step.path, body=body, content_type=kind).decode()
        except ObjectNotFound:
            if step.method in ("GET", "DELETE"):
                return ""
            raise

    def _created(self, step: Request) -> bool:
        try:
            self._client.request("POST", step.path, body=msgspec.json.encode(step.body))
        except ApiError as error:
            if error.status != HTTPStatus.CONFLICT:
                raise
            return False
        return True

    def _file(self, step: File) -> str:
        path = self._places.file(step.path)
        if not step.write:
            return path.read_text() if path.exists() else ""
        if step.text is None:
            path.unlink(missing_ok=True)
        else:
            path.write_text(step.text)  # in place: a pod sees the file through a mount of it
        return ""
