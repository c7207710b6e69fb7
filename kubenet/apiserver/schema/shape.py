"""Whether the fields of an object have the types that their kind gives them. *Pure.*

For the kinds that no part of kubenet reads; the others are checked by the structures that read them.
"""

from kubenet.apiserver.schema.types import LEAVES, Field, Shape, is_message, message

_WANTED = dict.fromkeys(("bytes", "Time", "MicroTime"), "string")
_GIVEN = {str: "string", bool: "bool", int: "number", float: "number", list: "array", dict: "object"}
_FITS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "bytes": (str,),
    "int": (int,),
    "bool": (bool,),
    "Time": (str,),
    "MicroTime": (str,),
    "Quantity": (str, int, float),
    "IntOrString": (str, int),
    "Texts": (list,),
}


def misfit(kind: str, value: object) -> str:
    """Return what the first field of a wrong type is, in the words of the API; empty if all fit."""
    return _misfit(kind, value, "") if is_message(kind) else ""


def _misfit(name: str, value: object, at: str) -> str:
    """Judge a message."""
    if not isinstance(value, dict):
        return _words(value, name, at)
    fields = message(name).by_name
    for key, member in value.items():
        field = fields.get(key)
        if field is None or member is None:
            continue
        if trouble := _field_misfit(field, member, f"{at}.{key}" if at else key):
            return trouble
    return ""


def _field_misfit(field: Field, value: object, at: str) -> str:
    if field.shape is Shape.ONE:
        return _one_misfit(field.type, value, at)
    wanted = list if field.shape is Shape.LIST else dict
    if not isinstance(value, wanted):
        return _words(value, f"{'[]' if wanted is list else 'map[string]'}{field.type}", at)
    members = value if isinstance(value, list) else value.values()
    return next((trouble for one in members if (trouble := _one_misfit(field.type, one, at))), "")


def _one_misfit(name: str, value: object, at: str) -> str:
    if name not in LEAVES:
        return _misfit(name, value, at)
    types = _FITS.get(name)
    if types is None or (isinstance(value, types) and not (isinstance(value, bool) and bool not in types)):
        return ""
    return _words(value, _WANTED.get(name, name), at)


def _words(value: object, wanted: str, at: str) -> str:
    given = _GIVEN.get(type(value), "null")
    return f"cannot unmarshal {given} into field {at or 'of the object itself'} of type {wanted}"
