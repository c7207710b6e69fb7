"""Files for the runtime: whole, pointed at the right socket, and only written when they differ."""

import json
import sys
from pathlib import Path

import pytest

from cni import install
from cni.install import (
    MARKER,
    PLUGIN,
    Conflist,
    ShimKind,
    _pointed,
    install_conflist,
    install_plugin,
    rival_of,
)
from cni.server import PATH_BYTES
from cni.shim import shim
from cni.spec import ABOUT, LATEST, VERSIONS
from kubenet.errors import InvalidInput, KubenetError, ProgramMissing

SOURCE = Path(install.__file__).with_name("shim")


def test_V2_a_runtime_finds_a_version_that_it_speaks() -> None:
    conflist = json.loads(Conflist().text())
    assert conflist["cniVersion"] == "1.0.0"
    assert set(conflist["cniVersions"]) == {"0.3.1", "0.4.0", "1.0.0", "1.1.0"} <= set(VERSIONS)
    assert [plugin["type"] for plugin in conflist["plugins"]] == [PLUGIN]


def test_the_configuration_is_replaced_in_one_step_and_left_alone_when_equal(tmp_path: Path) -> None:
    path = install_conflist(tmp_path / "net.d")
    before = path.stat()
    install_conflist(tmp_path / "net.d")
    assert path.stat().st_ino == before.st_ino
    path.write_text("half a conf")
    install_conflist(tmp_path / "net.d")
    assert json.loads(path.read_bytes())["name"] == "kubenet"
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "net.d").write_text("")
    with pytest.raises(KubenetError, match=r"net\.d/10-kubenet\.conflist: cannot be written"):
        install_conflist(tmp_path / "net.d")


def test_the_path_fills_exactly_the_place_it_has() -> None:
    executable = b"before" + MARKER.ljust(PATH_BYTES + 1, b"\0") + b"after"
    got = _pointed(executable, Path("/run/x.sock"), PATH_BYTES + 1)
    assert len(got) == len(executable)
    assert got == b"before" + b"/run/x.sock".ljust(PATH_BYTES + 1, b"\0") + b"after"


@pytest.mark.parametrize("length", [PATH_BYTES + 1, 500])
def test_a_path_that_no_socket_can_have_is_refused(length: int) -> None:
    executable = MARKER.ljust(PATH_BYTES + 1, b"\0")
    with pytest.raises(InvalidInput, match=f"the {PATH_BYTES} bytes"):
        _pointed(executable, Path("/" + "x" * (length - 1)), PATH_BYTES + 1)


@pytest.mark.parametrize("executable", [b"", MARKER * 2])
def test_an_executable_without_exactly_one_place_is_refused(executable: bytes) -> None:
    with pytest.raises(KubenetError, match="places"):
        _pointed(executable, Path("/run/x.sock"), PATH_BYTES + 1)


def test_both_shims_have_one_place_for_the_path() -> None:
    assert all((SOURCE / name).read_bytes().count(MARKER) == 1 for name in ("shim.c", "shim.py"))


def test_both_shims_say_what_the_agent_says_of_versions() -> None:
    text = (SOURCE / "shim.c").read_text()
    assert ABOUT.strip() in text
    assert ",".join(f'\\"{version}\\"' for version in VERSIONS) in text
    assert f'#define LATEST "{LATEST}"' in text
    assert (shim.SUPPORTED, shim.LATEST) == (VERSIONS, LATEST)


def test_the_python_plugin_is_a_program_for_this_interpreter(tmp_path: Path) -> None:
    kind = install_plugin(tmp_path, Path("/run/x.sock"), kind=ShimKind.PYTHON)
    text = (tmp_path / PLUGIN).read_text()
    assert kind is ShimKind.PYTHON
    assert text.startswith(f"#!{sys.executable} -IS\n")
    assert '"/run/x.sock"' in text
    assert (tmp_path / PLUGIN).stat().st_mode & 0o777 == 0o755


def test_the_configuration_that_runtimes_take_instead_is_named(tmp_path: Path) -> None:
    assert rival_of(tmp_path / "none") == ""
    install_conflist(tmp_path)
    for name in ("99-later.conf", "00-not-one.txt", "10-kubenet.conflist.bak"):
        (tmp_path / name).write_text("{}")
    assert rival_of(tmp_path) == ""
    (tmp_path / "10-flannel.conflist").write_text("{}")
    assert rival_of(tmp_path) == "10-flannel.conflist"
    install_conflist(tmp_path, name="00-kubenet.conflist")
    assert rival_of(tmp_path, "00-kubenet.conflist") == ""


def test_a_plugin_that_must_be_compiled_is_not_replaced_by_one_that_could_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cni.install._COMPILE", ("no-such-compiler",))
    with pytest.raises(ProgramMissing, match="no-such-compiler"):
        install_plugin(
            tmp_path / "bin", tmp_path / "cni.sock", cache=tmp_path / "cache", kind=ShimKind.NATIVE
        )
    assert not (tmp_path / "bin").exists()
