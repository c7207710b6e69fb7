"""The certificate that a server shows to clients that ask over TLS.

Source: RFC 7858 (DNS over TLS), RFC 8310; manual page of the plugin tls of CoreDNS.
"""

import ssl

from dns.plugins.values import TlsFiles
from kubenet.errors import InvalidInput

HANDSHAKE_S = 5.0  # for a client that opens a connection and says nothing
# "request" asks for a certificate and believes any: that is to ask for none.
_VERIFY = {
    "require": ssl.CERT_REQUIRED,
    "verify_if_given": ssl.CERT_OPTIONAL,
    "require_and_verify": ssl.CERT_REQUIRED,
}


def server_context(files: TlsFiles, protocols: tuple[str, ...]) -> ssl.SSLContext:
    """Return what a listening socket of ``files`` needs; ``protocols`` are for ALPN. Raises InvalidInput."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(list(protocols))
    load(context, files)
    try:
        if files.ca:
            context.load_verify_locations(files.ca)
    except OSError as error:  # ssl.SSLError is one
        raise InvalidInput(f"tls: {files.ca}: {error.strerror or error}") from error
    context.verify_mode = _VERIFY.get(files.client_auth, ssl.CERT_NONE)
    return context


def load(context: ssl.SSLContext, files: TlsFiles) -> None:
    """Show the certificate that the files hold now, from the next connection on. Raises InvalidInput."""
    try:
        context.load_cert_chain(files.cert, files.key)
    except OSError as error:
        raise InvalidInput(f"tls: {files.cert}, {files.key}: {error.strerror or error}") from error
