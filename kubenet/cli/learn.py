"""``kubenet learn``: the exercises as a course."""

import sys

import click

from kubenet.cli.break_ import quoted
from kubenet.cli.lab import NAME
from kubenet.cli.output import OUTPUT, print_json, print_table


@click.group()
def learn() -> None:
    """The exercises as a course: five tracks, the easiest exercise of each first.

    \b
    kubenet lab up
    kubenet learn start 1
    kubenet learn next
    """


@learn.command("list")
@OUTPUT
def list_tracks(output: str) -> None:
    """Show the tracks, and how far you are."""
    from labs import course
    from labs.exercise import TRACKS

    passed = set(course.read().passed)
    rows = [
        {"track": track, "title": title, "passed": len(passed & set(found)), "of": len(found)}
        for track, title in TRACKS.items()
        for found in (course.lessons(track),)
    ]
    if output == "json":
        print_json("TrackList", {"items": rows})
    else:
        print_table(
            ("TRACK", "PASSED", "ABOUT"),
            [(r["track"], f"{r['passed']}/{r['of']}", r["title"]) for r in rows],
        )


@learn.command()
@NAME
@click.argument("track", type=click.IntRange(1, 5))
def start(name: str | None, track: int) -> None:
    """Begin a track, or go on with it: the first exercise that you have not passed."""
    import msgspec

    from labs import control, course

    lab = name or control.only_lab()
    progress = course.read()
    _begin(lab, course.following(progress, track))
    course.write(msgspec.structs.replace(progress, track=track))


@learn.command("next")
@NAME
def next_lesson(name: str | None) -> None:
    """Judge the exercise, and if it is passed begin the next one of the track.

    The exit code is 1 if it is not passed yet.
    """
    import msgspec

    from kubenet.errors import NotFound
    from labs import control, course
    from labs.game import Game

    lab = name or control.only_lab()
    game, progress = Game(lab), course.read()
    begun = [each.exercise for each in game.state().broken]
    verdict = game.check()
    if not verdict.passed:
        print("not yet: kubenet break check says why, kubenet break hint helps")
        sys.exit(1)
    progress = msgspec.structs.replace(progress, passed=(*progress.passed, *begun))
    course.write(progress)
    print(f"passed: {', '.join(begun)}\n")
    try:
        following = course.following(progress, progress.track or 1)
    except NotFound as error:
        print(error.message)
        return
    _begin(lab, following)


def _begin(lab: str, exercise: str) -> None:
    from labs import catalogue
    from labs.game import Game

    sheet = catalogue.sheet(exercise)
    stories = Game(lab).start([exercise])
    print(f"{sheet.title} ({sheet.id}, about {sheet.minutes} min)\n")
    for story in stories:
        print(quoted(story))
    print("Repair it, then: kubenet learn next. Stuck: kubenet break hint", file=sys.stderr)
