"""Who sends a request. *Pure.*

Source: Kubernetes documentation, "Authenticating", "User impersonation".
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from kubenet.apiserver.status import StatusError, bad_request
from kubenet.model.objects import Json

MASTERS = "system:masters"
AUTHENTICATED = "system:authenticated"
UNAUTHENTICATED = "system:unauthenticated"
SERVICE_ACCOUNT_PREFIX = "system:serviceaccount:"
SERVICE_ACCOUNTS = "system:serviceaccounts"


@dataclass(frozen=True, slots=True)
class User:
    """A name, the groups it belongs to, and what else its credential says."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @property
    def is_master(self) -> bool:
        """Whether no rule is asked."""
        return MASTERS in self.groups

    def described(self) -> Json:
        """Return the user as an authentication.k8s.io UserInfo."""
        shown: Json = {"username": self.name, "groups": [*self.groups]}
        if self.uid:
            shown["uid"] = self.uid
        if self.extra:
            shown["extra"] = {key: [*values] for key, values in self.extra}
        return shown


ADMIN = User("system:admin", (MASTERS, AUTHENTICATED))
"""Whoever reaches a plain socket, which only the machine itself can."""
ANONYMOUS = User("system:anonymous", (UNAUTHENTICATED,))


def known(user: User) -> User:
    """Return an authenticated user with the group of all such."""
    if AUTHENTICATED in user.groups:
        return user
    return replace(user, groups=(*user.groups, AUTHENTICATED))


def service_account(namespace: str, name: str, uid: str = "") -> User:
    """Return a service account as a user."""
    groups = (SERVICE_ACCOUNTS, f"{SERVICE_ACCOUNTS}:{namespace}", AUTHENTICATED)
    return User(f"{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}", groups, uid)


def impersonated(headers: Mapping[str, str], groups: tuple[str, ...]) -> User | None:
    """Return whom the client wants to be, or None. Raises StatusError (400).

    The caller has yet to check that the client may be that user.
    """
    name = headers.get("Impersonate-User", "")
    if not name:
        if groups:
            raise bad_request("requested impersonation without impersonating a user")
        return None
    if name.startswith(SERVICE_ACCOUNT_PREFIX) and not groups:
        namespace, _, account = name.removeprefix(SERVICE_ACCOUNT_PREFIX).partition(":")
        return service_account(namespace, account)
    if name == ANONYMOUS.name:
        return ANONYMOUS
    return known(User(name, groups))


def unauthorized() -> StatusError:
    return StatusError(401, "Unauthorized", "Unauthorized")
