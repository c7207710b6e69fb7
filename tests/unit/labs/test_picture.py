"""Pictures of a lab, in every form."""

import re
from collections.abc import Callable
from xml.etree import ElementTree

import pytest

from labs import page, picture
from labs.picture import NodeBox, Picture, PodBox

LAB = Picture(
    "demo",
    (
        NodeBox(
            "node-1",
            "172.30.0.1",
            "10.244.0.0/24",
            True,
            (PodBox("shop/web-1", "10.244.0.2", True), PodBox("shop/<b>&\"'", "10.244.0.3", False)),
            (("ip route", "default via <script>"),),
        ),
        NodeBox("node-2", "172.30.0.2", "10.244.1.0/24", False),
    ),
    (("shop/web", "10.96.0.7"),),
)


@pytest.mark.parametrize(
    ("form", "draw"),
    [
        ("ascii.txt", picture.ascii_art),
        ("mermaid.txt", picture.mermaid),
        ("dot.txt", picture.dot),
        ("svg.svg", page.svg),
        ("page.html", page.page),
    ],
)
def test_a_lab_is_drawn(
    form: str, draw: Callable[[Picture], str], golden: Callable[[str, str], None]
) -> None:
    golden(f"lab_graph_{form}", draw(LAB))


def test_the_drawing_is_well_formed_whatever_the_names_are() -> None:
    drawn = ElementTree.fromstring(page.svg(LAB))
    texts = ["".join(each.itertext()) for each in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert "shop/<b>&\"'" in texts


def test_what_a_kernel_says_is_text_and_never_markup() -> None:
    assert "<script>" not in page.page(LAB).replace("<script>\nconst", "")
    assert "default via &lt;script&gt;" in page.page(LAB)


def test_the_page_loads_nothing() -> None:
    links = re.findall(r"(?:src|href)=|https?://(?!www\.w3\.org)", page.page(LAB))
    assert links == []


def test_an_empty_lab_has_a_picture_too() -> None:
    empty = Picture("empty", ())
    for draw in (picture.ascii_art, picture.mermaid, picture.dot, page.svg, page.page):
        assert isinstance(draw(empty), str)
