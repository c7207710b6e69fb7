"""The tokens of service accounts: what they claim, how they are written, when they hold. *Pure.*

Source: RFC 7519 (JWT), RFC 7515; Kubernetes documentation, "Managing Service Accounts".
"""

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Protocol

import msgspec

from kubenet.model.objects import Json

ISSUER = "https://kubernetes.default.svc.cluster.local"
LEAST_S = 600
MOST_S = 1 << 32
DEFAULT_S = 3600
TOKEN_MOST_BYTES = 16 << 10


class Signer(Protocol):
    """A key that signs."""

    @property
    def key_id(self) -> str: ...

    def sign(self, message: bytes) -> bytes: ...

    def verifies(self, message: bytes, signature: bytes) -> bool: ...

    def public(self) -> Json: ...


class Named(msgspec.Struct, frozen=True, omit_defaults=True):
    """An object that a token is bound to."""

    name: str
    uid: str = ""


class Binding(msgspec.Struct, frozen=True, omit_defaults=True):
    """The service account of a token, and the object with which the token ends."""

    namespace: str
    serviceaccount: Named
    pod: Named | None = None
    secret: Named | None = None
    node: Named | None = None


class Claims(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a token says; times are seconds since 1970."""

    iss: str
    sub: str
    aud: list[str]
    exp: int
    iat: int
    nbf: int
    jti: str
    kubernetes: Binding = msgspec.field(name="kubernetes.io")


class _Head(msgspec.Struct, frozen=True):
    alg: str
    kid: str = ""


def written(claims: Claims, signer: Signer) -> str:
    """Return the token."""
    head = msgspec.json.encode(_Head("ES256", signer.key_id))
    message = f"{_text(head)}.{_text(msgspec.json.encode(claims))}".encode()
    return f"{message.decode()}.{_text(signer.sign(message))}"


def verified(token: str, signer: Signer, now_s: float) -> Claims | str:
    """Return what a token claims, or why it does not hold."""
    parts = token.split(".")
    if len(parts) != 3 or len(token) > TOKEN_MOST_BYTES:
        return "it is no token of a service account"
    try:
        head = msgspec.json.decode(_bytes(parts[0]), type=_Head)
        claims = msgspec.json.decode(_bytes(parts[1]), type=Claims)
        signature = _bytes(parts[2])
    except (ValueError, binascii.Error, msgspec.MsgspecError):
        return "it is no token of a service account"
    if head.alg != "ES256" or not signer.verifies(token.rpartition(".")[0].encode(), signature):
        return "its signature does not hold"
    if claims.iss != ISSUER:
        return f"it was issued by {claims.iss}"
    if not claims.nbf <= now_s < claims.exp:
        return "it has expired, or is not valid yet"
    return claims


def _text(content: bytes) -> str:
    return urlsafe_b64encode(content).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
