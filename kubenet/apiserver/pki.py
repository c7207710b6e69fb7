"""Keys and certificates: of the authority, the server, its clients, and the key that signs tokens.

The one door to ``cryptography``. Keys are P-256; private keys leave here as PEM text, for files of mode 0600.

Source: Kubernetes documentation, "PKI certificates and requirements"; RFC 5280; RFC 7518 section 3.4 (ES256).
"""

from base64 import urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from ipaddress import ip_address

from kubenet.errors import InvalidInput, ProgramMissing
from kubenet.model.objects import Json

try:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
except ModuleNotFoundError:
    raise ProgramMissing("the package cryptography is missing", "pip install 'kubenet[ca]'") from None

AUTHORITY_DAYS = 3650
ISSUED_DAYS = 365
BACKDATED = timedelta(minutes=5)  # clocks of a cluster differ a little
_POINT_BYTES = 32  # half an ES256 signature


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and its key, as PEM."""

    cert_pem: bytes
    key_pem: bytes

    def __repr__(self) -> str:
        return "KeyPair(...)"  # never the key: this ends in logs


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a certificate is for: a user with groups, or (with ``hosts``) a server."""

    name: str
    groups: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()


def new_authority(name: str, now: datetime) -> KeyPair:
    """Return a certificate that signs others, for ten years."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    public = key.public_key()
    usage = _usage(signs_certificates=True)
    builder = (
        _begun(subject, subject, now, AUTHORITY_DAYS)
        .public_key(public)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )
    return _pair(builder.sign(key, hashes.SHA256()), key)


def issue(authority: KeyPair, identity: Identity, now: datetime) -> KeyPair:
    """Return a certificate for a year, signed by the authority. Raises InvalidInput."""
    signer = x509.load_pem_x509_certificate(authority.cert_pem)
    signing_key = _private(authority.key_pem)
    key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in identity.groups]
    names.append(x509.NameAttribute(NameOID.COMMON_NAME, identity.name))
    purpose = ExtendedKeyUsageOID.SERVER_AUTH if identity.hosts else ExtendedKeyUsageOID.CLIENT_AUTH
    authority_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key())
    builder = (
        _begun(x509.Name(names), signer.subject, now, ISSUED_DAYS)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(authority_id, critical=False)
    )
    if identity.hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName(_alternatives(identity.hosts)), False)
    return _pair(builder.sign(signing_key, hashes.SHA256()), key)


def _begun(subject: x509.Name, issuer: x509.Name, now: datetime, days: int) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + timedelta(days=days))
    )


def _usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _alternatives(hosts: Iterable[str]) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for host in hosts:
        try:
            names.append(x509.IPAddress(ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    return names


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> KeyPair:
    return KeyPair(certificate.public_bytes(serialization.Encoding.PEM), _pem(key))


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _private(pem: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(pem, None)
    except ValueError as error:
        raise InvalidInput(f"a private key cannot be read: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InvalidInput("a private key is not on an elliptic curve")
    return key


def serves(pair: KeyPair, hosts: Iterable[str], now: datetime) -> bool:
    """Return whether a server's certificate names all hosts and is good for another month."""
    certificate = x509.load_pem_x509_certificate(pair.cert_pem)
    if certificate.not_valid_after_utc < now + timedelta(days=30):
        return False
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    return set(_alternatives(hosts)) <= set(found)


class TokenKey:
    """Signs and checks the tokens of service accounts (ES256)."""

    def __init__(self, key_pem: bytes) -> None:
        self._key = _private(key_pem)
        self._public = self._key.public_key()
        der = self._public.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.key_id = _base64(sha256(der).digest())

    @classmethod
    def new_pem(cls) -> bytes:
        """Return a new key."""
        return _pem(ec.generate_private_key(ec.SECP256R1()))

    def sign(self, message: bytes) -> bytes:
        r, s = decode_dss_signature(self._key.sign(message, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(_POINT_BYTES, "big") + s.to_bytes(_POINT_BYTES, "big")

    def verifies(self, message: bytes, signature: bytes) -> bool:
        """Return whether this key made the signature."""
        if len(signature) != 2 * _POINT_BYTES:
            return False
        r, s = (int.from_bytes(half, "big") for half in (signature[:_POINT_BYTES], signature[_POINT_BYTES:]))
        try:
            self._public.verify(encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return False
        return True

    def public(self) -> Json:
        """Return the public key as a member of a JSON Web Key Set."""
        numbers = self._public.public_numbers()
        x, y = (_base64(number.to_bytes(_POINT_BYTES, "big")) for number in (numbers.x, numbers.y))
        return {"use": "sig", "kty": "EC", "kid": self.key_id, "alg": "ES256", "crv": "P-256", "x": x, "y": y}


def _base64(content: bytes) -> str:
    return urlsafe_b64encode(content).decode().rstrip("=")
