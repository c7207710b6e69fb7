"""What stands before every request: who is it, may they, is there room; and what is written down after it.

A plain socket is reached only by the machine itself, so whoever comes through one is the administrator; a
TLS socket asks for credentials.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TextIO

import msgspec
from aiohttp import web

from kubenet.apiserver.attributes import Attributes
from kubenet.apiserver.authenticator import Authenticator, Credentials
from kubenet.apiserver.authorizer import Authorizer
from kubenet.apiserver.metrics import Metrics
from kubenet.apiserver.status import StatusError
from kubenet.apiserver.users import (
    ADMIN,
    SERVICE_ACCOUNT_PREFIX,
    User,
    impersonated,
)
from kubenet.clock import Clock, rfc3339_micro

log = logging.getLogger(__name__)

READS_MOST = 400
WRITES_MOST = 200
RETRY_AFTER_S = 1
_READ_VERBS = ("get", "list", "watch", "head")
_LONG_SUBRESOURCES = ("attach", "exec", "portforward", "proxy", "log")


@dataclass(frozen=True, slots=True)
class Access:
    """How the server guards itself on TLS sockets, and what it keeps of requests."""

    credentials: Credentials = field(default_factory=Credentials)
    reads_most: int = READS_MOST
    writes_most: int = WRITES_MOST
    audit: TextIO | None = None  # a JSON line for every write


@dataclass(slots=True)
class Call:
    """One request on its way through the server."""

    started_s: float
    user: User = ADMIN
    asked: Attributes | None = None

    @property
    def long(self) -> bool:
        """Whether it stays open as long as the client likes."""
        asked = self.asked
        return asked is not None and (asked.verb == "watch" or asked.subresource in _LONG_SUBRESOURCES)

    @property
    def kind(self) -> str:
        if self.long:
            return "longRunning"
        return "readOnly" if self.asked is None or self.asked.verb in _READ_VERBS else "mutating"


class Gate:
    """See the module's text."""

    def __init__(
        self, access: Access, authenticator: Authenticator, authorizer: Authorizer, clock: Clock
    ) -> None:
        self._access = access
        self._authenticator = authenticator
        self._authorizer = authorizer
        self._clock = clock
        self.metrics = Metrics()

    def call(self) -> Call:
        """Begin to count a request."""
        return Call(self._clock.monotonic())

    def identify(self, request: web.BaseRequest) -> User:
        """Return who sends a request, or whom they may impersonate. Raises StatusError (400, 401, 403)."""
        user = self._sender(request)
        groups = tuple(request.headers.getall("Impersonate-Group", ()))
        wanted = impersonated(request.headers, groups)
        if wanted is None:
            return user
        for asked in _impersonations(wanted, groups):
            self._authorizer.check(user, asked)
        return wanted

    def _sender(self, request: web.BaseRequest) -> User:
        transport = request.transport
        if transport is None or transport.get_extra_info("sslcontext") is None:
            return ADMIN
        certificate = transport.get_extra_info("peercert") or {}
        subject = certificate.get("subject")
        return self._authenticator.user(subject, request.headers.get("Authorization", ""))

    def check(self, call: Call) -> None:
        """Refuse what the sender may not do. Raises StatusError (403)."""
        if call.asked is not None:
            self._authorizer.check(call.user, call.asked)

    @contextmanager
    def room(self, call: Call) -> Iterator[None]:
        """Hold a place among the requests under way. Raises StatusError (429)."""
        kind = call.kind
        limit = {"readOnly": self._access.reads_most, "mutating": self._access.writes_most}.get(kind)
        if limit is not None and self.metrics.in_flight[kind] >= limit:
            self.metrics.refused += 1
            raise too_many(RETRY_AFTER_S)
        self.metrics.in_flight[kind] += 1
        try:
            yield
        finally:
            self.metrics.in_flight[kind] -= 1

    def finish(self, call: Call, remote: str, code: int) -> None:
        """Write down how a request ended."""
        asked = call.asked
        verb = asked.verb if asked else "get"
        resource = asked.full_resource if asked else ""
        taken_s = self._clock.monotonic() - call.started_s
        self.metrics.request(verb, resource, code, None if call.long else taken_s)
        if self._access.audit is not None and call.kind == "mutating" and asked is not None:
            self._audit(self._access.audit, call.user, asked, (remote, code))

    def _audit(self, file: TextIO, user: User, asked: Attributes, end: tuple[str, int]) -> None:
        line = {
            "time": rfc3339_micro(self._clock.now()),
            "user": user.name,
            "groups": user.groups,
            "verb": asked.verb,
            "group": asked.group,
            "resource": asked.full_resource,
            "namespace": asked.namespace,
            "name": asked.name,
            "sourceIP": end[0],
            "code": end[1],
        }
        try:
            file.write(msgspec.json.encode(line).decode() + "\n")
            file.flush()
        except OSError as error:
            log.warning("audit: a line is lost: %s", error)


def too_many(retry_after_s: int, why: str = "Too many requests, please try again later.") -> StatusError:
    return StatusError(429, "TooManyRequests", why, {"retryAfterSeconds": retry_after_s})


def _impersonations(wanted: User, groups: tuple[str, ...]) -> Iterator[Attributes]:
    """Yield what somebody must be allowed in order to be another user."""
    if wanted.name.startswith(SERVICE_ACCOUNT_PREFIX):
        namespace, _, name = wanted.name.removeprefix(SERVICE_ACCOUNT_PREFIX).partition(":")
        yield Attributes("impersonate", "", "serviceaccounts", "", namespace, name)
    else:
        yield Attributes("impersonate", "", "users", name=wanted.name)
    for group in groups:
        yield Attributes("impersonate", "", "groups", name=group)
