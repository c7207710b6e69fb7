"""The command line's own errors."""

from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path

import pytest
import yaml

from kubenet.cli.main import main
from proxy.config import Settings
from proxy.config_options import OPTIONS


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        pytest.param(
            ("--source-file", "/nowhere.yaml", "--dry-run"), "/nowhere.yaml: cannot be read", id="no file"
        ),
        pytest.param(("--proxy-mode", "ipvs"), "mode 'ipvs' is not offered", id="no such mode"),
        pytest.param(("--config", "/nowhere.yaml"), "/nowhere.yaml: cannot be read", id="no configuration"),
        pytest.param(("--no-such-flag",), "No such option", id="no such flag"),
        pytest.param(
            ("--source-file", "/dev/null", "explain", "10.0.0.1", "10.96.0.1"), "is not IP:PORT", id="no port"
        ),
        pytest.param(
            ("--source-file", "/dev/null", "explain", "me", "10.96.0.1:80"),
            "is not an address",
            id="no source",
        ),
        pytest.param(
            ("--source-file", "/dev/null", "explain", "fd00::1", "10.96.0.1:80"),
            "of two families",
            id="mixed",
        ),
    ],
)
def test_what_cannot_be_done_ends_in_one_line(
    words: Sequence[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["proxy", *words]) == 2
    said = capsys.readouterr().err
    assert complaint in said
    assert said.count("\n") == 1


def test_the_daemon_set_says_what_the_command_understands_and_asks_where_it_answers() -> None:
    (daemon_set,) = (
        each
        for each in yaml.safe_load_all((Path(__file__).parents[3] / "deploy" / "proxy.yaml").read_text())
        if each["kind"] == "DaemonSet"
    )
    (container,) = daemon_set["spec"]["template"]["spec"]["containers"]
    command, *words = container["args"]
    assert command == "proxy"
    known = {option.flag for option in OPTIONS} | {"config"}
    assert {word.removeprefix("--").partition("=")[0] for word in words} <= known
    assert Settings().healthz == (ip_address("0.0.0.0"), container["livenessProbe"]["httpGet"]["port"])


def test_nothing_is_there_and_so_nothing_is_decided(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["proxy", "--source-file", "/dev/null", "explain", "10.244.0.9", "10.96.0.1:80"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith("1: goes to 10.96.0.1:80 untouched\n")
    assert said.endswith("  no rule takes it\n")
