"""A lab as a drawing: SVG, and a page that holds it with what each kernel says. *Pure.*

The page is one file with nothing to load: it works from a mail, offline, and in ten years.
"""

from collections.abc import Iterator
from html import escape

from labs.picture import NodeBox, Picture

BOX_WIDTH, GAP, LINE, HEAD, MARGIN, CABLE = 270, 30, 22, 66, 20, 30
COLUMNS = 4
LONG = 20  # characters of a name that fit beside an address
OK, BAD, PENDING = "#2a7d3f", "#c0271b", "#b07b00"

_STYLE = """
body { font: 14px system-ui, sans-serif; margin: 1.5rem; color: #222; background: #fff; }
text { font: 13px ui-monospace, monospace; fill: #222; }
text.head { font-weight: 700; font-size: 15px; }
g.node { cursor: pointer; } g.node:hover rect.box, g.node:focus rect.box { stroke-width: 3; }
pre { background: #f5f5f2; padding: .8rem; overflow: auto; max-height: 26rem; }
section { display: none; } section.shown { display: block; }
table { border-collapse: collapse; }
td { padding: .15rem 1rem .15rem 0; font-family: ui-monospace, monospace; }
"""
_SCRIPT = """
const show = name => document.querySelectorAll('section').forEach(
  s => s.classList.toggle('shown', s.dataset.node === name));
document.querySelectorAll('g.node').forEach(g => {
  for (const event of ['mouseenter', 'focus', 'click']) g.addEventListener(event, () => show(g.dataset.node));
});
show(decodeURIComponent(location.hash.slice(1)));
"""


def svg(picture: Picture) -> str:
    """Return the drawing: nodes as boxes with their pods inside, hanging on the wire."""
    rows = [picture.nodes[i : i + COLUMNS] for i in range(0, len(picture.nodes), COLUMNS)]
    width = MARGIN * 2 + max((len(row) for row in rows), default=1) * (BOX_WIDTH + GAP) - GAP
    parts: list[str] = []
    top = MARGIN
    for row in rows:
        height = HEAD + LINE * max([1, *(len(node.pods) for node in row)]) + 10
        for column, node in enumerate(row):
            parts += _node(node, MARGIN + column * (BOX_WIDTH + GAP), top, height)
        wire = top + height + CABLE
        parts.append(_line((MARGIN, wire), (width - MARGIN, wire), "#555", 5))
        parts.append(_text(MARGIN, wire + 20, "wire"))
        top = wire + 45
    size = f'viewBox="0 0 {width} {top}" width="{width}" height="{top}"'
    label = f'role="img" aria-label="lab {escape(picture.lab, quote=True)}"'
    body = "\n".join(parts)
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {label}>\n{body}\n</svg>\n'


def page(picture: Picture) -> str:
    """Return the drawing in a page; a node that is pointed at shows what its kernel says."""
    rows = "".join(f"<tr><td>{escape(n)}</td><td>{escape(a)}</td></tr>" for n, a in picture.services)
    sections = "\n".join(_section(node) for node in picture.nodes)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>lab {escape(picture.lab)}</title>\n"
        f"<style>{_STYLE}</style></head><body>\n<h1>lab {escape(picture.lab)}</h1>\n{svg(picture)}"
        f"<p>Point at a node to see what its kernel says.</p>\n{sections}\n"
        f"<h2>Services</h2>\n<table>{rows}</table>\n<script>{_SCRIPT}</script>\n</body></html>\n"
    )


def _node(node: NodeBox, left: int, top: int, height: int) -> Iterator[str]:
    colour = OK if node.ready else BAD
    middle, bottom = left + BOX_WIDTH // 2, top + height
    yield f'<g class="node" tabindex="0" data-node="{escape(node.name, quote=True)}">'
    yield _box((left, top), (BOX_WIDTH, height), colour, 'class="box" rx="8" fill="#fbfbf8" stroke-width="2"')
    yield _text(left + 12, top + 22, node.name + ("" if node.ready else " NOT READY"), 'class="head"')
    yield _text(left + 12, top + 40, f"eth0 {node.ip}")
    yield _text(left + 12, top + 57, f"pods {node.pod_cidr}")
    for line, pod in enumerate(node.pods):
        y = top + HEAD + LINE * line
        edge = OK if pod.ready else PENDING
        yield _box((left + 10, y), (BOX_WIDTH - 20, LINE - 3), edge, 'rx="4" fill="#fff"')
        yield _text(left + 16, y + 14, pod.name if len(pod.name) < LONG else f"{pod.name[: LONG - 2]}…")
        yield _text(left + BOX_WIDTH - 16, y + 14, pod.ip, 'text-anchor="end"')
    yield _line((middle, bottom), (middle, bottom + CABLE), colour, 3)
    yield "</g>"


def _box(corner: tuple[int, int], size: tuple[int, int], stroke: str, more: str) -> str:
    (x, y), (width, height) = corner, size
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" stroke="{stroke}" {more}/>'


def _line(start: tuple[int, int], end: tuple[int, int], stroke: str, width: int) -> str:
    (x1, y1), (x2, y2) = start, end
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{stroke}" stroke-width="{width}"/>'


def _text(x: int, y: int, said: str, more: str = "") -> str:
    return f'<text x="{x}" y="{y}" {more}>{escape(said)}</text>'


def _section(node: NodeBox) -> str:
    told = "".join(f"<h3>{escape(title)}</h3><pre>{escape(text)}</pre>" for title, text in node.details)
    return (
        f'<section data-node="{escape(node.name, quote=True)}"><h2>{escape(node.name)}</h2>{told}</section>'
    )
