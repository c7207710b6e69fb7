"""What names, labels and annotations may look like. *Pure.*

Every rule returns the sentence that tells what is wrong, or an empty string.

Source: Kubernetes documentation, "Object Names and IDs", "Labels and Selectors"; RFC 1035, RFC 1123.
"""

import re
from collections.abc import Callable, Iterator

from kubenet.apiserver.status import Cause, invalid
from kubenet.apiserver.tree import table_at
from kubenet.model.objects import Json

NameRule = Callable[[str], str]

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_DNS_1035 = r"[a-z]([-a-z0-9]*[a-z0-9])?"
_QUALIFIED = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_LABEL_VALUE = rf"({_QUALIFIED})?"
_PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]([-a-z0-9]*[a-z0-9])?")

LABEL_MOST = 63
SUBDOMAIN_MOST = 253
ANNOTATIONS_MOST_BYTES = 256 << 10

_LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and"
    " end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is"
    f" '{_LABEL}')"
)
_SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must"
    " start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is"
    f" '{_LABEL}(\\.{_LABEL})*')"
)
_DNS_1035_TEXT = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic"
    " character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for"
    f" validation is '{_DNS_1035}')"
)
_QUALIFIED_TEXT = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an"
    " alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is"
    f" '{_QUALIFIED}')"
)
_LABEL_VALUE_TEXT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must"
    " start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used"
    f" for validation is '{_LABEL_VALUE}')"
)


def _matches(pattern: str, most: int, sentence: str, text: str) -> str:
    if len(text) > most:
        return f"must be no more than {most} characters"
    return "" if re.fullmatch(pattern, text) else sentence


def dns_label(text: str) -> str:
    """Judge the name of a Namespace, a container, a port of a Service."""
    return _matches(_LABEL, LABEL_MOST, _LABEL_TEXT, text)


def dns_subdomain(text: str) -> str:
    """Judge the name of most objects."""
    return _matches(_SUBDOMAIN, SUBDOMAIN_MOST, _SUBDOMAIN_TEXT, text)


def dns_1035_label(text: str) -> str:
    """Judge the name of a Service: it becomes a host name that may not begin with a digit."""
    return _matches(_DNS_1035, LABEL_MOST, _DNS_1035_TEXT, text)


def port_name(text: str) -> str:
    """Judge the name of a container's port. Source: RFC 6335 section 5.1."""
    if len(text) > 15:
        return "must be no more than 15 characters"
    if not _PORT_NAME.fullmatch(text) or "--" in text:
        return (
            "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-), and at least one letter"
        )
    return ""


def qualified_name(text: str) -> str:
    """Judge the key of a label or an annotation: ``name`` or ``prefix/name``."""
    prefix, slash, name = text.rpartition("/")
    if slash and (not prefix or dns_subdomain(prefix)):
        return f"prefix part {_SUBDOMAIN_TEXT}"
    if not name:
        return "name part must be non-empty"
    trouble = _matches(_QUALIFIED, LABEL_MOST, _QUALIFIED_TEXT, name)
    return f"name part {trouble}" if trouble.startswith("must be") else trouble


def label_value(text: str) -> str:
    """Judge the value of a label."""
    return _matches(_LABEL_VALUE, LABEL_MOST, _LABEL_VALUE_TEXT, text)


def metadata_causes(metadata: Json, name_rule: NameRule) -> Iterator[Cause]:
    """Yield what is wrong with the name, labels and annotations of an object."""
    name = metadata.get("name")
    if isinstance(name, str) and (trouble := name_rule(name)):
        yield invalid("metadata.name", name, trouble)
    yield from label_causes(metadata, "metadata.labels")
    yield from _annotation_causes(metadata)


def label_causes(metadata: Json, field: str) -> Iterator[Cause]:
    """Yield what is wrong with ``metadata``'s labels, which stand at ``field``."""
    for key, value in table_at(metadata, "labels").items():
        if trouble := qualified_name(key):
            yield invalid(field, key, trouble)
        if isinstance(value, str) and (trouble := label_value(value)):
            yield invalid(field, value, trouble)


def _annotation_causes(metadata: Json) -> Iterator[Cause]:
    annotations = table_at(metadata, "annotations")
    size_bytes = 0
    for key, value in annotations.items():
        if trouble := qualified_name(key.lower()):
            yield invalid("metadata.annotations", key, trouble)
        size_bytes += len(key.encode()) + len(value.encode() if isinstance(value, str) else b"")
    if size_bytes > ANNOTATIONS_MOST_BYTES:
        message = f"Too long: may not be more than {ANNOTATIONS_MOST_BYTES} bytes"
        yield Cause("metadata.annotations", "FieldValueTooLong", message)
