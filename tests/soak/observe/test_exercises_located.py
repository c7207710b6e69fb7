"""The exercises of a lab, held against check and trace: do they name the place where the cause sits?

Each exercise says where its cause is. It counts as located if a finding of the check, or the story of the
symptom's own packet, names that node, pod, Service or the wire.
"""

from collections.abc import Iterator

import pytest

from kubenet.errors import KubenetError
from kubenet.observe.findings import Finding
from kubenet.observe.judge import judge
from kubenet.observe.place import Site
from kubenet.observe.probe import Target
from kubenet.observe.survey import survey
from kubenet.observe.target import destination
from kubenet.observe.trace import trace
from labs import catalogue
from labs.exercise import Http
from labs.game import Game
from labs.ledger import LabDirectory
from labs.scorebook import Scorebook
from labs.site import site_of
from tests.e2e.cluster import lab, own

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1200)]

SHARE = 0.9


def test_E3_the_exercises_are_located() -> None:
    missed, count = [], 0
    with lab(own("located")) as name:
        for number, exercise in enumerate(catalogue.names()):
            game = Game(name)
            try:
                game.start([exercise], number)
            except KubenetError as error:
                missed.append(f"{exercise}: it could not be begun: {error}")
                continue
            count += 1
            (part,) = game.parts(game.state())
            try:
                with site_of(name) as site:
                    found = [*findings(site, part.exercise.symptom)]
            finally:
                if Scorebook(LabDirectory(name)).begun:
                    game.give_up()
            if not any(names(each, part.exercise.where, site) for each in found):
                said = sorted({f"{each.code} {each.where}" for each in found})
                missed.append(f"{exercise} at {part.exercise.where}: {', '.join(said) or 'nothing'}")
    assert (count - len(missed)) / count >= SHARE, "\n".join(missed)


def findings(site: Site, symptom: tuple[object, ...]) -> Iterator[Finding]:
    """Yield what the check finds, and what the story of the first symptom does."""
    for verdict in judge(survey(site)):
        # That a pair fails is the symptom, and its sender rarely the place.
        yield from (each for each in verdict.findings if each.code != "E_UNREACHABLE")
    for probe in symptom:
        if not isinstance(probe, Http):
            continue
        try:
            to = destination(probe.to, "tcp", site.cluster)
            source = probe.source.replace("pod/", "shop/")
            story = trace(site, source, Target(to.protocol, to.ip, to.port)).story
        except KubenetError:
            continue
        if story.finding is not None:
            yield story.finding


def names(found: Finding, where: str, site: Site) -> bool:
    """Whether a finding names the place: itself, or of a pod or Service by its key."""
    spot = where.split(" ", maxsplit=1)[0].replace("pod/", "shop/").replace("service/", "shop/")
    homes = {place.name.name: place.name.node for place in site.places}
    return found.where in (spot, homes.get(spot, spot)) or spot.split("/")[-1] in found.evidence
