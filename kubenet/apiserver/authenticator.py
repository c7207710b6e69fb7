"""Who sends a request: a client certificate, a bearer token, or nobody in particular.

Source: Kubernetes documentation, "Authenticating".
"""

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from kubenet.apiserver.cache import Cache
from kubenet.apiserver.kinds import NODE, POD, SERVICEACCOUNT
from kubenet.apiserver.tokens import ISSUER, Binding, Claims, Named, Signer, verified
from kubenet.apiserver.users import ANONYMOUS, User, known, service_account, unauthorized
from kubenet.clock import Clock

EXTRA = "authentication.kubernetes.io"
_BOUND = {"pod": POD, "node": NODE}

Subject = Iterable[Iterable[tuple[str, str]]]
"""A certificate's subject as ``ssl`` gives it."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the server takes besides the client certificates that TLS has checked."""

    signer: Signer | None = None  # of service accounts' tokens
    tokens: Mapping[str, User] = field(default_factory=dict)
    anonymous: bool = False  # whether a request without credentials is one of system:anonymous


class Authenticator:
    """Turns credentials into users; the cache says whether a token's account is still there."""

    def __init__(self, cache: Cache, credentials: Credentials, clock: Clock) -> None:
        self._cache = cache
        self._credentials = credentials
        self._clock = clock

    def user(self, subject: Subject | None, authorization: str) -> User:
        """Return who sends a request. Raises StatusError (401)."""
        if subject is not None:
            return _of_certificate(subject)
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() == "bearer" and token.strip():
            found = self.of_token(token.strip(), (ISSUER,))
            if isinstance(found, User):
                return found
        elif not authorization and self._credentials.anonymous:
            return ANONYMOUS
        raise unauthorized()

    def of_token(self, token: str, audiences: Iterable[str]) -> User | str:
        """Return whose token it is, or why it is nobody's."""
        for have, user in self._credentials.tokens.items():
            if hmac.compare_digest(have.encode(), token.encode()):
                return known(user)
        if self._credentials.signer is None:
            return "it is not known here"
        claims = verified(token, self._credentials.signer, self._clock.now().timestamp())
        if isinstance(claims, str):
            return claims
        if not set(audiences) & set(claims.aud):
            return f"it is meant for {', '.join(claims.aud)}"
        return self._of_claims(claims)

    def _of_claims(self, claims: Claims) -> User | str:
        bound = claims.kubernetes
        account = self._cache.get(SERVICEACCOUNT, bound.namespace, bound.serviceaccount.name)
        if account is None or account.meta.uid != bound.serviceaccount.uid:
            return "its service account has been deleted"
        for name, kind in _BOUND.items():
            reference: Named | None = getattr(bound, name)
            if reference is None:
                continue
            holder = self._cache.get(kind, bound.namespace, reference.name)
            if holder is None or holder.meta.uid != reference.uid:
                return f"the {name} that it is bound to has been deleted"
        user = service_account(bound.namespace, bound.serviceaccount.name, bound.serviceaccount.uid)
        return replace(user, extra=_extra(claims.jti, bound))


def _extra(token_id: str, bound: Binding) -> tuple[tuple[str, tuple[str, ...]], ...]:
    found = [(f"{EXTRA}/credential-id", (f"JTI={token_id}",))]
    if bound.pod is not None:
        found.append((f"{EXTRA}/pod-name", (bound.pod.name,)))
        found.append((f"{EXTRA}/pod-uid", (bound.pod.uid,)))
    if bound.node is not None:
        found.append((f"{EXTRA}/node-name", (bound.node.name,)))
    return tuple(found)


def _of_certificate(subject: Subject) -> User:
    """Return the user of a certificate that TLS has checked: its name, and its organizations as groups."""
    pairs = [pair for part in subject for pair in part]
    names = [value for key, value in pairs if key == "commonName"]
    if not names:
        raise unauthorized()
    return known(User(names[-1], tuple(value for key, value in pairs if key == "organizationName")))
