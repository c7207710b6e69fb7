"""``kubenet explain``: what a code means, or where the tables say a packet goes."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kubenet.cli.sites import open_site, site_options
from kubenet.errors import InvalidInput

if TYPE_CHECKING:
    from kubenet.observe.explain import Walk


@click.command()
@site_options
@click.argument("what")
@click.argument("destination", required=False)
@click.option("--proto", type=click.Choice(["tcp", "udp", "icmp"]), help="As for trace.")
@click.option("--trace", "really", is_flag=True, help="Send a packet too, and say where the kernel differs.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def explain(
    lab: str | None,
    node: bool,
    kubeconfig: Path | None,
    what: str,
    destination: str | None,
    proto: str | None,
    really: bool,
    output: str,
) -> None:
    """Say what the code of a finding means, or walk the tables from one place to another.

    \b
        kubenet explain E_VXLAN_FDB
        kubenet explain demo/client svc/demo/web
        kubenet explain demo/client svc/demo/web --trace

    The walk sends nothing. The exit code is 1 if it ends before its destination, or the kernel differs.
    """
    if destination is None:
        _explain_code(what, output)
        return
    from kubenet.cli.output import print_json
    from kubenet.cli.tracing import target_of
    from kubenet.observe.explain import closest, differences, walks
    from kubenet.observe.survey import survey
    from kubenet.observe.trace import trace

    with open_site(lab, node, kubeconfig) as site:
        target = target_of(destination, proto, "", site.cluster)
        source = site.place(what).name.name
        found = walks(survey(site, {"cni", "proxy"}), source, target.ip, target.protocol, target.port)
        said: list[str] = []
        if really:
            story = trace(site, source, target).story
            found = [closest(found, story)]
            said = list(differences(found[0], story))
    if output == "json":
        print_json("Walks", {"walks": [_as_json(walk) for walk in found], "differences": said})
    else:
        print("\n\n".join(_as_text(walk) for walk in found))
        for words in said:
            print(f"differs  {words}")
        if really and not said:
            print("the kernel does as the tables say")
    sys.exit(1 if said or any(walk.finding for walk in found) else 0)


def _explain_code(code: str, output: str) -> None:
    import difflib

    from kubenet.cli.output import print_json
    from kubenet.observe.findings import CATALOGUE, catalogue_entry

    entry = catalogue_entry(code)
    if entry is None:
        near = difflib.get_close_matches(code.upper(), CATALOGUE, n=1)
        hint = f"did you mean {near[0]}?" if near else "kubenet explain SOURCE DESTINATION walks the tables"
        raise InvalidInput(f"{code}: no such code, and no destination was said", hint)
    if output == "json":
        fields = {
            "code": code.upper(),
            "component": entry.component,
            "title": entry.title,
            "text": entry.text,
        }
        print_json("FindingKind", fields)
        return
    import textwrap

    print(f"{code.upper()}: {entry.title}\n")
    print(textwrap.fill(entry.text, 100))
    print(f"\nresponsible: {entry.component}")


def _as_text(walk: "Walk") -> str:
    from kubenet.observe.render import finding_lines

    width = max(len(step.place) for step in walk.steps)
    label = max(len(step.label) for step in walk.steps)
    lines = [f"{step.place:<{width}}  {step.label:<{label}}  {step.text}" for step in walk.steps]
    return "\n".join(lines + (finding_lines(walk.finding) if walk.finding else []))


def _as_json(walk: "Walk") -> dict[str, object]:
    from kubenet.observe.render import finding_json

    return {
        "places": list(walk.places),
        "steps": [{"place": step.place, "label": step.label, "text": step.text} for step in walk.steps],
        "finding": finding_json(walk.finding) if walk.finding else None,
    }
