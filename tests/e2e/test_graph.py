"""The picture of a lab, in a real browser."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.cluster import kubenet, lab, own

pytestmark = pytest.mark.e2e

QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


def test_a_node_that_is_chosen_shows_what_its_kernel_says(tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no Chromium here (apt-get install chromium)")
    page = tmp_path / "lab.html"
    with lab(own("graph"), "--nodes", "2") as name:
        page.write_text(kubenet("lab", "graph", "--name", name, "-o", "html").stdout)
    shown = subprocess.run(
        [chromium, *QUIET, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", f"file://{page}#node-2"],
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    ).stdout
    assert '<section data-node="node-2" class="shown">' in shown
    assert '<section data-node="node-1" class="">' in shown or '<section data-node="node-1">' in shown
    assert "10.244.0.0/24 via 10.244.0.0 dev kubenet.1" in shown
