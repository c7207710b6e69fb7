"""How commands print: tables for people, JSON with an apiVersion for programs."""

from collections.abc import Iterable, Mapping, Sequence

import click
import msgspec

API_VERSION = "kubenet.dev/v1"

OUTPUT = click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="How to print.",
)


def print_json(kind: str, fields: Mapping[str, object]) -> None:
    """Print one JSON object on stdout."""
    encoded = msgspec.json.encode({"apiVersion": API_VERSION, "kind": kind, **fields})
    print(msgspec.json.format(encoded, indent=2).decode())


def print_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print aligned columns, as wide as their widest cell."""
    cells = [tuple(head), *(tuple(str(cell) or "-" for cell in row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
