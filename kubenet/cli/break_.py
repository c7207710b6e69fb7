"""``kubenet break``: exercises. Something in a lab is broken; find it, repair it, have it judged."""

import sys

import click

from kubenet.cli.lab import NAME
from kubenet.cli.output import OUTPUT, print_json, print_table
from kubenet.errors import InvalidInput


def complete_exercise(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001 - click's signature
    """Return the exercises whose name begins so."""
    from labs import catalogue

    return [path.parent.name for path in catalogue.DIRECTORY.glob(f"{incomplete}*/exercise.toml")]


@click.group("break")
def break_() -> None:
    """Exercises: something in a lab is broken. Find it, repair it, have it judged.

    \b
    kubenet lab up
    kubenet break start who-is-vtep     (or --track 2, or --incident)
    kubenet break check
    """


@break_.command("list")
@click.option("--track", type=click.IntRange(1, 5), help="Only this track.")
@OUTPUT
def list_exercises(track: int | None, output: str) -> None:
    """Show the exercises, by track."""
    from labs import catalogue

    sheets = [catalogue.sheet(name) for name in catalogue.names()]
    rows = [
        {"name": each.id, "track": each.track, "minutes": each.minutes, "title": each.title}
        for each in sheets
        if track in (None, each.track)
    ]
    if output == "json":
        print_json("ExerciseList", {"items": rows})
    else:
        print_table(
            ("NAME", "TRACK", "MINUTES", "TITLE"),
            [(r["name"], r["track"], r["minutes"], r["title"]) for r in rows],
        )


@break_.command()
@NAME
@click.argument("exercise", required=False, shell_complete=complete_exercise)
@click.option("--track", type=click.IntRange(1, 5), help="Any exercise of this track.")
@click.option("--incident", is_flag=True, help="Three faults at once, and nobody says which.")
@click.option("--seed", type=int, help="Who plays which part; the same seed, the same exercise.")
@click.option("--hidden", is_flag=True, help="Keep secret which exercise it is.")
def start(
    name: str | None, exercise: str | None, track: int | None, incident: bool, seed: int | None, hidden: bool
) -> None:
    """Break something, and say what a user notices of it."""
    import random

    from labs import catalogue, control
    from labs.game import SEED_LIMIT, Game

    chosen_seed = random.randrange(SEED_LIMIT) if seed is None else seed
    if sum((exercise is not None, track is not None, incident)) > 1:
        raise InvalidInput("an exercise, --track or --incident: only one of them", "kubenet break list")
    if exercise is not None:
        names = [exercise]
    else:
        names = catalogue.incident(chosen_seed) if incident else [catalogue.drawn(track, chosen_seed)]
        hidden = True
    lab = name or control.only_lab()
    stories = Game(lab).start(names, chosen_seed, hidden)
    print(f"{'an incident' if incident else 'an exercise' if hidden else names[0]}, seed {chosen_seed}\n")
    for story in stories:
        print(quoted(story))
    print("Done when 'kubenet break check' says so. Stuck: kubenet break hint", file=sys.stderr)


@break_.command()
@NAME
def hint(name: str | None) -> None:
    """Print the next hint."""
    from labs import control
    from labs.game import Game

    print(Game(name or control.only_lab()).hint())


@break_.command()
@NAME
@OUTPUT
def check(name: str | None, output: str) -> None:
    """Judge the repair. The exit code is 0 only when the exercise is passed.

    Four things are judged: the symptom is gone, the cause is gone, nothing else is broken, and no short cut
    was taken (a pod that was deleted, somebody's packet filter that was removed).
    """
    import time

    from labs import control
    from labs.game import Game

    game = Game(name or control.only_lab())
    state = game.state()
    verdict = game.check()
    took = f"{(time.time() - state.began_s) / 60:.1f} min, {state.hints_used} hints"
    if output == "json":
        parts = {part: list(against) for part, against in verdict.parts()}
        print_json("Verdict", {"passed": verdict.passed, "took": took, **parts})
    else:
        for part, against in verdict.parts():
            print(f"{'ok' if not against else 'not yet':<9} {part}")
            for line in against:
                print(f"          {line}")
        print(f"fixed     {took}" if verdict.passed else "")
    sys.exit(0 if verdict.passed else 1)


@break_.command()
@NAME
def giveup(name: str | None) -> None:
    """Take the fault back, and say what it was."""
    from labs import control
    from labs.game import Game

    for solution in Game(name or control.only_lab()).give_up():
        print(solution)


@break_.command()
@NAME
def solve(name: str | None) -> None:
    """Do what the solution says, and print the commands: to see how a repair looks, then check it."""
    from labs import control
    from labs.game import Game

    for line in Game(name or control.only_lab()).repair():
        print(line)


def quoted(story: str) -> str:
    """Return a story set off from what is said about it."""
    return "\n".join(f"  {line}" if line else "" for line in story.splitlines()) + "\n"
