"""Every exercise breaks something, shows it, is healed by its solution, and can be taken back."""

import json
import time
from collections.abc import Callable, Iterator

import pytest

from kubenet.model.resources import PODS
from kubenet.observe.judge import judge
from kubenet.observe.survey import survey
from labs import catalogue, control
from labs.exercise import Dns, Exercise, Ready
from labs.game import Game
from labs.ledger import LabDirectory
from labs.scorebook import Scorebook
from labs.site import site_of
from labs.stage import NAMESPACE
from tests.e2e.cluster import kubenet, lab, own

pytestmark = pytest.mark.e2e

HEAL_S = 20.0
# A search path is the resolver's own: neither the kernel nor the API server knows of it.
NOWHERE = ("search-party",)


@pytest.fixture(scope="module")
def arena() -> Iterator[str]:
    with lab(own("ex")) as name:
        yield name


@pytest.fixture(autouse=True)
def _alone(arena: str) -> Iterator[None]:
    """What one test leaves broken is not the next one's."""
    yield
    if Scorebook(LabDirectory(arena)).begun:
        Game(arena).give_up()


@pytest.mark.parametrize("exercise", catalogue.names())
def test_an_exercise_breaks_shows_is_healed_by_its_solution_and_can_be_given_up(
    arena: str, exercise: str
) -> None:
    game, seed = Game(arena), catalogue.names().index(exercise)
    game.start([exercise], seed)
    _until(lambda: bool(game.check().symptom))  # what fails sometimes may not fail at the first look
    before = game.check()
    assert before.cause, "what is broken must be known"
    assert not before.shortcuts
    (part,) = game.parts(game.state())
    assert exercise in NOWHERE or _place(part.exercise) in _told(arena, part.exercise)
    assert game.repair()
    _until_passed(game)
    game.start([exercise], seed + 1)  # begins only in a lab in which everything reaches everything
    assert game.give_up()
    _until(game.healthy)


def test_deleting_the_pod_is_no_repair(arena: str) -> None:
    game = Game(arena)
    game.start(["wall-in-the-pod"], seed=1)
    (part,) = game.parts(game.state())
    pod = part.exercise.where.removeprefix("pod/")
    control.client_of(arena).delete(PODS, "shop", pod)
    _until(lambda: f"pod {pod} was deleted, not repaired" in game.check().shortcuts)
    game.give_up()
    game.set_stage()


def test_three_faults_at_once_are_named_by_nobody_and_all_have_to_go(arena: str) -> None:
    said = kubenet("break", "start", "--name", arena, "--incident", "--seed", "3")
    assert said.stdout.startswith("an incident, seed 3")
    game = Game(arena)
    assert len(game.state().broken) == 3
    first = kubenet("break", "check", "--name", arena, check=False)
    assert first.returncode == 1
    assert "what was broken is still there" in first.stdout
    kubenet("break", "solve", "--name", arena)
    _until_passed(game)


def test_the_commands_of_an_exercise(arena: str) -> None:
    assert "who-is-vtep" in kubenet("break", "list", "--track", "2").stdout
    mistyped = kubenet("break", "start", "--name", arena, "who-is-vtp", check=False)
    assert mistyped.returncode == 3
    assert "did you mean 'who-is-vtep'" in mistyped.stderr
    assert kubenet("break", "check", "--name", arena, check=False).returncode == 3
    story = kubenet("break", "start", "--name", arena, "no-way-out", "--seed", "5")
    assert "cannot reach anybody" in story.stdout
    again = kubenet("break", "start", "--name", arena, "no-way-out", check=False)
    assert again.returncode == 73
    assert kubenet("break", "hint", "--name", arena).stdout.startswith("1 of 3: ")
    judged = json.loads(kubenet("break", "check", "--name", arena, "-o", "json", check=False).stdout)
    assert judged["passed"] is False
    assert judged["symptom"]
    assert "169.254.1.1" in kubenet("break", "giveup", "--name", arena).stdout


def test_a_course_goes_on_with_the_next_exercise(
    arena: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
    first, second, *_ = [n for n in catalogue.names() if catalogue.sheet(n).track == 4]
    kubenet("learn", "start", "--name", arena, "4")
    assert [each.exercise for each in Game(arena).state().broken] == [first]
    assert kubenet("learn", "next", "--name", arena, check=False).returncode == 1
    kubenet("break", "solve", "--name", arena)
    _until(lambda: kubenet("learn", "next", "--name", arena, check=False).returncode == 0)
    assert [each.exercise for each in Game(arena).state().broken] == [second]
    kubenet("break", "giveup", "--name", arena)
    tracks = json.loads(kubenet("learn", "list", "-o", "json").stdout)["items"]
    assert [track["passed"] for track in tracks] == [0, 0, 0, 1, 0]


def test_a_daemon_can_be_stopped_and_started(arena: str) -> None:
    assert (
        kubenet("lab", "daemon", "stop", "--name", arena, "node-2/proxy").stdout == "node-2/proxy: stopped\n"
    )
    listed = json.loads(kubenet("lab", "daemon", "list", "--name", arena, "-o", "json").stdout)["items"]
    assert {"name": "node-2/proxy", "state": "stopped"} in listed
    assert (
        kubenet("lab", "daemon", "start", "--name", arena, "node-2/proxy").stdout == "node-2/proxy: running\n"
    )
    lines = kubenet("lab", "logs", "--name", arena, "node-2/proxy").stdout.splitlines()
    assert lines
    assert all(" node-2/proxy " in line for line in lines)
    unknown = kubenet("lab", "daemon", "stop", "--name", arena, "node-2/porxy", check=False)
    assert unknown.returncode == 3
    assert "no daemon 'node-2/porxy'" in unknown.stderr


def _told(arena: str, exercise: Exercise) -> str:
    """What check finds, and, if that is not the place, what a trace of the symptom comes to."""
    with site_of(arena) as site:
        verdicts = judge(survey(site))
    found = " ".join(f"{each.where} {each.evidence}" for verdict in verdicts for each in verdict.findings)
    if _place(exercise) in found:
        return found
    probe = exercise.symptom[0]
    assert not isinstance(probe, Ready)
    source = probe.source.replace("pod/", f"{NAMESPACE}/")
    if isinstance(probe, Dns):
        words = [source, f"{probe.name}.{NAMESPACE}.svc.cluster.local", "--proto", "dns"]
    else:
        host, _, port = probe.to.rpartition(":")
        service = f"svc/{NAMESPACE}/{host.partition('.')[0]}:{port}"
        words = [source, probe.to if host[0].isdigit() else service]
    told = kubenet("trace", "--name", arena, *words, check=False).stdout
    return found + told.partition("\nresult")[2]


def _place(exercise: Exercise) -> str:
    """Return the place of the cause as check and trace name it."""
    return exercise.where.split()[0].rpartition("/")[2]


def _until_passed(game: Game) -> None:
    _until(lambda: game.check().passed)


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + HEAL_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)
