"""The command line: what it says, how it ends, and what it does not load."""

import subprocess
import sys

import pytest

from kubenet import errors
from kubenet.cli.main import COMMANDS, main
from kubenet.errors import KubenetError

HEAVY = ("aiohttp", "asyncio", "dnslib", "grpc", "pyroute2", "scapy", "yaml")


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in COMMANDS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help_without_root_or_lab(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert "Usage: kubenet" in capsys.readouterr().out


def test_a_typo_is_answered_with_the_command_meant(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lbs"]) == 2
    said = capsys.readouterr().err
    assert "Did you mean 'lab'?" in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("argv", "code", "says"),
    [
        pytest.param(["lab", "up", "--nodes", "x"], 2, "not a valid integer", id="no number"),
        pytest.param(["lab", "up", "--name", "A B"], 2, "lab name 'A B'", id="no name for a lab"),
        pytest.param(["demo", "--nodes", "9"], 2, "9 nodes", id="too many nodes for the demo"),
        pytest.param(["apply", "-f", "/nowhere.yaml"], 3, "/nowhere.yaml: no such file", id="no such file"),
        pytest.param(["lab", "status", "--name", "none-such"], 3, "no such lab", id="no such lab"),
    ],
)
def test_a_mistake_ends_in_one_line_with_the_next_step(
    argv: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == code
    captured = capsys.readouterr()
    assert says in captured.err
    assert "next: " in captured.err
    assert len(captured.err.splitlines()) == 1
    assert captured.out == ""


def test_expected_failures_have_exit_codes_of_their_own() -> None:
    kinds = [
        errors.InvalidInput,
        errors.NotFound,
        errors.KernelLacks,
        errors.InvalidManifest,
        errors.UnknownKind,
        errors.Unreachable,
        errors.AlreadyExists,
        errors.NotPermitted,
        errors.TimedOut,
        errors.ProgramMissing,
    ]
    codes = {kind.exit_code for kind in kinds}
    assert len(codes) == len(kinds)
    assert not codes & {0, 1, 70, 130}


def test_an_error_without_a_next_step_is_still_one_line() -> None:
    assert str(KubenetError("a: broken")) == "a: broken"


def test_the_version_loads_nothing_heavy() -> None:
    code = (
        "import sys; from kubenet.cli.main import main; main(['--version']); "
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.splitlines()[-1] == "[]"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_gets_a_completion_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert "_KUBENET_COMPLETE" in capsys.readouterr().out


def test_names_of_exercises_are_completed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_KUBENET_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "kubenet break start who")
    monkeypatch.setenv("COMP_CWORD", "3")
    with pytest.raises(SystemExit):
        main([])
    assert capsys.readouterr().out == "plain,who-is-vtep\n"


def test_every_option_has_a_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBENET_BREAK_LIST_TRACK", "4")
    assert main(["break", "list"]) == 0
    assert "truncated" in (said := capsys.readouterr().out)
    assert "who-is-vtep" not in said


def test_a_mistyped_command_of_a_group_is_guessed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab", "stauts"]) == 2
    assert "Did you mean" in capsys.readouterr().err
