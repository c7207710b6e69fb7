"""``kubenet apply``: bring a manifest file into a lab."""

import sys
from pathlib import Path

import click

from kubenet.errors import InvalidManifest, NotFound


@click.command()
@click.option("-f", "--filename", required=True, help="A manifest file; - is standard input.")
@click.option(
    "-n", "--name", envvar="KUBENET_LAB", help="The lab; needed only when several run. [env: KUBENET_LAB]"
)
@click.option("--namespace", default="default", show_default=True, help="For objects that name none.")
def apply(filename: str, name: str | None, namespace: str) -> None:
    """Create or change the objects of a manifest file.

    The whole file is read before anything is sent: a file with a mistake changes nothing.
    """
    from kubenet.client.manifest import parse
    from labs.apply import apply_manifests
    from labs.control import client_of, only_lab

    manifests = parse(_read(filename), "stdin" if filename == "-" else filename, namespace)
    for manifest, outcome in apply_manifests(client_of(name or only_lab()), manifests):
        print(f"{manifest} {outcome}")


def _read(filename: str) -> str:
    try:
        if filename == "-":
            return sys.stdin.read()
        return Path(filename).read_text()
    except FileNotFoundError:
        raise NotFound(f"{filename}: no such file", "kubenet apply -f FILE") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidManifest(f"{filename}: cannot be read: {error}", "give a text file") from error
