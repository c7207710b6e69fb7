"""``kubenet dns``: what is wrong is said in one line, with the place in the Corefile."""

from pathlib import Path

import pytest

from kubenet.cli.main import main


def test_without_a_corefile_or_a_command_there_is_nothing_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dns"]) == 2
    assert "give --conf" in capsys.readouterr().err


def test_serving_and_asking_do_not_go_together(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dns", "--conf", "Corefile", "query", "x"]) == 2
    assert "does not go with query" in capsys.readouterr().err


def test_a_corefile_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dns", "--conf", str(tmp_path / "missing")]) == 2
    assert "No such file" in capsys.readouterr().err


def test_P_an_unknown_plugin_is_named_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corefile = tmp_path / "Corefile"
    corefile.write_text(".:5399 {\n    errors\n    autpath\n}\n")
    assert main(["dns", "--conf", str(corefile)]) == 2
    assert f"{corefile}:3: unknown plugin 'autpath'" in capsys.readouterr().err


def test_explain_knows_its_types(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dns", "explain", "web", "--from", "demo/x", "--type", "B"]) == 2
    assert "type 'B': unknown" in capsys.readouterr().err


def test_C9_a_corefile_can_be_checked_before_it_is_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corefile = tmp_path / "Corefile"
    corefile.write_text(".:5399 {\n    forward . 192.0.2.1 {\n        polcy random\n    }\n}\n")
    assert main(["dns", "--conf", str(corefile), "--check"]) == 2
    said = capsys.readouterr().err
    assert f"{corefile}:3: forward: unknown option 'polcy'" in said
    assert "did you mean policy?" in said
    corefile.write_text(".:5399 {\n    forward . 192.0.2.1\n}\n")
    assert main(["dns", "--conf", str(corefile), "--check"]) == 0
    assert "1 server block, nothing wrong" in capsys.readouterr().out
