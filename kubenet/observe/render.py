"""A story as text, as JSON, and as a picture. *Pure.*"""

from collections.abc import Iterator, Mapping

from kubenet.observe.findings import Finding
from kubenet.observe.story import Line, Story, Way, What


def story_text(story: Story, *, both_ways: bool = False, everything: bool = False) -> str:
    """Return the story for people.

    The way back is told when it is asked for, or when the loss is there; chains that had nothing against the
    packet only with ``everything``.
    """
    lines = [_title(story)]
    if story.there is not None:
        lines += ["", *_way_text(story.there, everything=everything)]
    if story.back is not None and (both_ways or _is_the_trouble(story)):
        lines += ["", f"back: {story.back.title}", *_way_text(story.back, everything=everything)]
    lines += ["", f"result  {story.result.words}"]
    if story.finding is not None:
        lines += finding_lines(story.finding)
    lines += [f"unseen  {words}" for words in story.unseen]
    return "\n".join(lines)


def finding_lines(finding: Finding) -> list[str]:
    """Return a finding in four lines."""
    where = f"{finding.where}/{finding.ifname}" if finding.ifname else finding.where
    lines = [
        f"  why   {finding.evidence}",
        f"  who   {finding.component} on {where}",
    ]
    if finding.next_step:
        lines.append(f"  next  {finding.next_step}")
    return [*lines, f"  code  {finding.code}   (kubenet explain {finding.code})"]


def _title(story: Story) -> str:
    if story.there is None:
        return story.title
    return f"{story.title}   {story.there.hops} hops, {story.there.duration_us / 1e3:.2f} ms"


def _is_the_trouble(story: Story) -> bool:
    return story.finding is not None and story.there is not None and story.there.delivered


def _way_text(way: Way, *, everything: bool) -> Iterator[str]:
    shown = [line for line in way.lines if everything or not _is_dull(line)]
    indent = max((len(line.place) for line in shown), default=0)
    label = max((len(line.label) for line in shown), default=0)
    place = ""
    for line in shown:
        name = line.place if line.place != place else ""
        place = line.place
        yield f"{name:<{indent}}  {line.known.value:<8}  {line.label:<{label}}  {_text(line)}".rstrip()
    if way.copies:
        strangers = ", ".join(way.copies)
        yield f"{'':<{indent}}  seen      a bridge also sent copies to {strangers}, which threw them away"


def _is_dull(line: Line) -> bool:
    """Whether a line only says that a chain had nothing against the packet."""
    return line.what is What.RULE and line.text in ("policy accept", "policy", "return continue", "return")


def _text(line: Line) -> str:
    text = line.text
    goes_to = line.verdict.removeprefix("jump ").removeprefix("goto ")
    if (
        line.what is What.RULE
        and line.verdict not in ("", "continue")
        and goes_to.lower() not in text.lower()
    ):
        text += f"  => {line.verdict}"
    if line.kubernetes:
        text += f"  «{line.kubernetes}»"
    return text


def story_json(story: Story) -> Mapping[str, object]:
    """Return the fields of the JSON form (``kubenet.dev/v1`` Story)."""
    return {
        "flow": story.title,
        "answered": story.result.answered,
        "result": story.result.words,
        "there": _way_json(story.there),
        "back": _way_json(story.back),
        "finding": finding_json(story.finding) if story.finding else None,
        "unseen": list(story.unseen),
    }


def finding_json(finding: Finding) -> Mapping[str, object]:
    """Return a finding's fields."""
    return {
        "code": finding.code,
        "component": finding.component,
        "where": finding.where,
        "interface": finding.ifname,
        "evidence": finding.evidence,
        "next": finding.next_step,
    }


def _way_json(way: Way | None) -> Mapping[str, object] | None:
    if way is None:
        return None
    return {
        "packet": way.title,
        "hops": way.hops,
        "microseconds": way.duration_us,
        "delivered": way.delivered,
        "copies": list(way.copies),
        "lines": [
            {
                "known": line.known.value,
                "what": line.what.value,
                "place": line.place,
                "label": line.label,
                "text": line.text,
                "microseconds": line.time_us,
                "object": line.kubernetes,
                "verdict": line.verdict,
            }
            for line in way.lines
        ],
    }


def story_mermaid(story: Story) -> str:
    """Return the story as a Mermaid sequence diagram."""
    lines = ["sequenceDiagram"]
    ways = [way for way in (story.there, story.back) if way is not None]
    places = dict.fromkeys(line.place for way in ways for line in way.lines)
    ids = {place: f"p{number}" for number, place in enumerate(places)}
    lines += [f"    participant {ids[place]} as {place}" for place in places]
    for way in ways:
        lines += _way_mermaid(way, ids)
    if story.finding is not None:
        spot = ids.get(story.finding.where)
        if spot:
            lines.append(
                f"    Note over {spot}: {_plain(story.finding.code)}: {_plain(story.finding.evidence)}"
            )
    return "\n".join(lines)


def _way_mermaid(way: Way, ids: Mapping[str, str]) -> Iterator[str]:
    last: Line | None = None
    for line in way.lines:
        here = ids[line.place]
        if line.what is What.HOP:
            if last is not None and last.place != line.place:
                words = f"{last.label} to {line.label}"
                yield f"    {ids[last.place]}->>{here}: {_plain(words)}"
            last = line
        elif line.what in (What.NAT, What.TUNNEL):
            yield f"    Note over {here}: {_plain(line.label)} {_plain(line.text)}"
        elif line.what is What.DROP:
            yield f"    {here}-x{here}: {_plain(line.text)}"


def _plain(text: str) -> str:
    """Leave out what Mermaid takes for itself."""
    return text.replace(";", ",").replace("#", "").replace("->", "to")
