"""What everything that is read from the API is made of. *Pure.*"""

from typing import TypeAlias

import msgspec

Json: TypeAlias = dict[str, "JsonValue"]
JsonValue: TypeAlias = "dict[str, JsonValue] | list[JsonValue] | str | int | float | bool | None"


class Read(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """Base of everything read from the API."""
