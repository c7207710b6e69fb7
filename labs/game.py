"""An exercise from its start to its end: break, hint, check, give up.

What was broken is written down before it is broken, with all that is needed to take it back, so giving up
works from another process, after a crash, and after half a repair.
"""

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import msgspec

from kubenet.client.errors import ApiError
from kubenet.client.sync import SyncClient
from kubenet.errors import AlreadyExists, KubenetError, NotFound
from kubenet.kernel.run import run
from kubenet.model.objects import Node, Pod, Service
from kubenet.model.resources import NODES, PODS, SERVICES
from labs import catalogue, control, ledger
from labs.cast import Facts, NodeFacts, PodFacts, probes_of, roles
from labs.demo import wait_for
from labs.exercise import Dns, Exercise, Http, Probe, Repair, Sheet
from labs.faults.steps import Fault
from labs.hands import Hands
from labs.ledger import LabDirectory
from labs.places import Places
from labs.probes import Prober
from labs.referee import Verdict, Witnessed, shortcuts
from labs.scorebook import Broken, Scorebook, State
from labs.stage import NAMESPACE, is_of_stage, stage_objects

SEED_LIMIT = 10_000
STAGE_WAIT_S = 20.0
SHOW_WAIT_S = 10.0


@dataclass(frozen=True, slots=True)
class Part:
    """One exercise of a game, its roles given away."""

    sheet: Sheet
    exercise: Exercise
    saved: tuple[tuple[str, ...], ...]


class Game:
    """The exercise of one lab, if there is one."""

    def __init__(self, lab: str, root: Path = ledger.LABS, exercises: Path = catalogue.DIRECTORY) -> None:
        self._lab = lab
        self._root = root
        self._exercises = exercises
        self._directory = LabDirectory(lab, root)
        self._client = control.client_of(lab, root)
        self._book = Scorebook(self._directory)

    def state(self) -> State:
        """Return the exercise that was begun. Raises NotFound."""
        return self._book.read()

    def start(self, names: Sequence[str], seed: int | None = None, hidden: bool = False) -> list[str]:
        """Set the stage, break it, wait until the symptom shows; returns the stories.

        Raises AlreadyExists, NotFound, KubenetError when the lab is not healthy to begin with.
        """
        if self._book.begun:
            raise AlreadyExists(
                f"lab {self._lab!r}: exercise {self._title()} is not over",
                "kubenet break check, or kubenet break giveup",
            )
        sheets = [catalogue.sheet(name, self._exercises) for name in names]
        chosen = random.randrange(SEED_LIMIT) if seed is None else seed
        facts = self.set_stage()
        cast = roles(facts, chosen)
        places = Places(self._directory, facts)
        wait_for("every pod of the stage reaches every other", self.healthy, SHOW_WAIT_S)
        witnessed = self._witnessed(places)
        state = State(
            (), chosen, hidden, time.time(), dict(witnessed.pods), tuple(sorted(witnessed.tables)), facts
        )
        with self._taken_back_on_failure(state):
            for sheet in sheets:
                state = self._break(sheet, cast, state, places)
            self._until_it_shows(state, places)
        return [sheet.told(sheet.story, cast) for sheet in sheets]

    def hint(self) -> str:
        """Return the next hint. Raises NotFound when all were given."""
        state = self._book.read()
        hints = [hint for part in self.parts(state) for hint in part.exercise.hints]
        if state.hints_used >= len(hints):
            raise NotFound(f"no more hints: all {len(hints)} were given", "kubenet break giveup")
        self._book.write(msgspec.structs.replace(state, hints_used=state.hints_used + 1))
        return f"{state.hints_used + 1} of {len(hints)}: {hints[state.hints_used]}"

    def check(self) -> Verdict:
        """Judge the repair; the exercise is over when it is passed. Raises NotFound."""
        state = self._book.read()
        places = Places(self._directory, state.facts)
        parts = self.parts(state)
        verdict = self._judge(state, parts, places)
        if verdict.passed:
            self._remove_props(parts, places)
            self._book.close()
        return verdict

    def give_up(self) -> list[str]:
        """Take back whatever is broken; returns the solutions. Raises NotFound."""
        state = self._book.read()
        cast = roles(state.facts, state.seed)
        solutions = [part.sheet.told(part.sheet.solution, cast) for part in self.parts(state)]
        self._take_back(state)
        return solutions

    def repair(self) -> list[str]:
        """Do what the solutions say, and return it as a user would type it."""
        state = self._book.read()
        hands = self._hands(Places(self._directory, state.facts))
        shown = []
        for part in self.parts(state):
            for each in part.exercise.repair:
                hands.repair(each)
                shown.append(each.shown())
        return shown

    def repairs(self) -> list[Repair]:
        """Return what the solutions would do."""
        return [each for part in self.parts(self._book.read()) for each in part.exercise.repair]

    def parts(self, state: State) -> list[Part]:
        """Return the exercises of a game with their roles given away."""
        cast = roles(state.facts, state.seed)
        sheets = [(catalogue.sheet(each.exercise, self._exercises), each.saved) for each in state.broken]
        return [Part(sheet, sheet.played_by(cast), saved) for sheet, saved in sheets]

    def healthy(self) -> bool:
        """Whether every client of the stage reaches every server, by address and by name."""
        facts = observe(self._client)
        prober = Prober(Places(self._directory, facts), self._client)
        return all(outcome.ok for outcome in prober.run(controls(facts)))

    def set_stage(self) -> Facts:
        """Make the pods and Services that exercises play with, and wait for them. Raises TimedOut."""
        nodes = [node.metadata.name for node in self._client.list(NODES, Node)]
        for resource, namespace, body in stage_objects(nodes):
            try:
                self._client.create(resource, namespace, body)
            except ApiError as error:
                if error.status != 409:
                    raise
        wait_for(
            "the pods of the stage are ready", lambda: self._ready_pods() == 2 * len(nodes), STAGE_WAIT_S
        )
        return observe(self._client)

    def _ready_pods(self) -> int:
        return sum(pod.ready for pod in stage_pods(self._client))

    def _break(self, sheet: Sheet, cast: dict[str, str], state: State, places: Places) -> State:
        hands = self._hands(places)
        faults: tuple[Fault, ...] = sheet.played_by(cast).fault
        saved = tuple(hands.carry_out(fault.before()) for fault in faults)
        state = msgspec.structs.replace(state, broken=(*state.broken, Broken(sheet.id, saved)))
        self._book.write(state)
        for fault, found in zip(faults, saved, strict=True):
            hands.carry_out(fault.do(found))
        return state

    def _until_it_shows(self, state: State, places: Places) -> None:
        prober, parts = Prober(places, self._client), self.parts(state)

        def shows() -> bool:
            return all(any(not o.ok for o in prober.run(part.exercise.symptom)) for part in parts)

        wait_for("the symptom shows", shows, SHOW_WAIT_S)

    @contextmanager
    def _taken_back_on_failure(self, state: State) -> Iterator[None]:
        self._book.write(state)
        try:
            yield
        except BaseException:
            self._take_back(self._book.read())
            raise

    def _take_back(self, state: State) -> None:
        """Undo what was done, the last first. What a half repair left is no obstacle."""
        hands = self._hands(Places(self._directory, state.facts))
        for part in reversed(self.parts(state)):
            for fault, saved in reversed(list(zip(part.exercise.fault, part.saved, strict=True))):
                _undo(hands, fault, saved)
        self._book.close()

    def _judge(self, state: State, parts: Sequence[Part], places: Places) -> Verdict:
        hands, prober = self._hands(places), Prober(places, self._client)
        symptoms = [probe for part in parts for probe in part.exercise.symptom]
        outcomes = prober.run([*symptoms, *controls(state.facts)])
        shown, others = outcomes[: len(symptoms)], outcomes[len(symptoms) :]
        causes = [
            f"{'what was broken' if state.hidden else describe(fault)} is still there"
            for part in parts
            for fault in part.exercise.fault
            if (cause := fault.cause()) is not None and hands.present(cause)
        ]
        before = Witnessed(state.pods, frozenset(state.tables))
        return Verdict(
            tuple(tell(o.probe, o.failure) for o in shown if not o.ok),
            tuple(causes),
            tuple(tell(o.probe, o.failure) for o in others if not o.ok),
            tuple(shortcuts(before, self._witnessed(places))),
        )

    def _remove_props(self, parts: Sequence[Part], places: Places) -> None:
        """Remove the objects that only showed the fault."""
        hands = self._hands(places)
        for part in parts:
            for fault, saved in zip(part.exercise.fault, part.saved, strict=True):
                if fault.cause() is None:
                    hands.carry_out(fault.undo(saved))

    def _witnessed(self, places: Places) -> Witnessed:
        pods = {pod.metadata.name: pod.metadata.uid for pod in stage_pods(self._client)}
        tables = [
            f"{place} {line.removeprefix('table ')}"
            for place in places.everywhere()
            for line in self._tables(places, place)
        ]
        return Witnessed(pods, frozenset(tables))

    def _tables(self, places: Places, place: str) -> list[str]:
        with places.netns(place) as netns:
            return run(("nft", "list", "tables"), netns=netns).stdout.decode().splitlines()

    def _hands(self, places: Places) -> Hands:
        return Hands(self._lab, self._root, places, self._client)

    def _title(self) -> str:
        state = self._book.read()
        return "a hidden one" if state.hidden else " and ".join(each.exercise for each in state.broken)


def _undo(hands: Hands, fault: Fault, saved: tuple[str, ...]) -> None:
    """Take one fault back. What a half repair already put right may refuse; what is broken may not."""
    for step in fault.undo(saved):
        try:
            hands.carry_out([step])
        except KubenetError:
            cause = fault.cause()
            if cause is not None and hands.present(cause):
                raise


def observe(client: SyncClient) -> Facts:
    """Return what stands on the stage."""
    nodes = [
        NodeFacts(
            node.metadata.name,
            IPv4Address(next(a.address for a in node.status.addresses if a.type == "InternalIP")),
            IPv4Network(node.spec.pod_cidr),
        )
        for node in client.list(NODES, Node)
    ]
    pods = [
        PodFacts(p.metadata.name, p.spec.node_name, IPv4Address(p.status.pod_ip), p.metadata.uid)
        for p in stage_pods(client)
    ]
    services = {each.metadata.key: each.spec.cluster_ip for each in client.list(SERVICES, Service)}
    return Facts(tuple(nodes), tuple(pods), services)


def stage_pods(client: SyncClient) -> list[Pod]:
    """Return the pods that every exercise plays with; others come and go."""
    return [pod for pod in client.list(PODS, Pod, NAMESPACE) if is_of_stage(pod.metadata.name)]


def controls(facts: Facts) -> list[Probe]:
    """Return what must work in a lab in which nothing is broken."""
    direct = [Http(f"pod/{name}", f"{address}:8080", times=1) for name, address in probes_of(facts)]
    clients = sorted({name for name, _ in probes_of(facts)})
    by_name = [Http(f"pod/{name}", "web.shop.svc.cluster.local.:80", times=2) for name in clients]
    return [*direct, *by_name]


def tell(probe: Probe, failure: str) -> str:
    """Return one line about a probe that failed."""
    match probe:
        case Http():
            return f"{probe.source} asks {probe.to}{probe.path}: {failure}"
        case Dns():
            return f"{probe.source} looks up {probe.name}{' over TCP' if probe.tcp else ''}: {failure}"
    return failure


def describe(fault: Fault) -> str:
    """Return a fault in a few words."""
    doc = (type(fault).__doc__ or "").partition(".")[0]
    return doc[:1].lower() + doc[1:]
