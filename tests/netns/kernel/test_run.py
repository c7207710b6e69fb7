"""Programs run where they shall, with what they shall have, and end when they shall."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from kubenet.errors import NotFound, NotPermitted, ProgramFailed, ProgramMissing, TimedOut
from kubenet.kernel.netns import NetNs
from kubenet.kernel.process import identify
from kubenet.kernel.run import PATH, describe_status, find, run, spawn

pytestmark = pytest.mark.netns


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_program_runs_to_its_end() -> None:
    done = run(["tr", "a-z", "A-Z"], stdin=b"hello")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"HELLO", b"")


def test_a_program_runs_inside_a_namespace(netns: NetNs) -> None:
    inside = run(["readlink", "/proc/self/ns/net"], netns=netns).stdout.decode().strip()
    assert inside == f"net:[{netns.inode}]"
    assert run(["readlink", "/proc/self/ns/net"]).stdout.decode().strip() != inside


def test_a_program_gets_a_small_fixed_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    assert run(["env"]).stdout.decode().splitlines() == [f"PATH={PATH}", "LANG=C.UTF-8"]
    assert run(["env"], env={"A": "b"}).stdout == b"A=b\n"


def test_a_failure_names_the_program_its_status_and_its_last_words() -> None:
    with pytest.raises(ProgramFailed, match=r"^ls: exit status 2: ls: cannot access '/nonexistent'"):
        run(["ls", "/nonexistent"])
    assert run(["ls", "/nonexistent"], check=False).returncode == 2


def test_the_error_of_nft_is_found_above_its_drawing() -> None:
    with pytest.raises(ProgramFailed, match=r"nft: exit status 1: Error: syntax error"):
        run(["nft", "add bogus"])


def test_a_program_that_is_too_slow_is_killed() -> None:
    with pytest.raises(TimedOut, match=r"sleep: still running after 0\.05 s, killed"):
        run(["sleep", "60"], timeout_s=0.05)


def test_a_missing_program_names_the_package_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kubenet.kernel.run.DIRECTORIES", ("/nonexistent",))
    with pytest.raises(ProgramMissing) as caught:
        run(["iptables-restore"])
    assert caught.value.next_step == "apt-get install iptables"
    with pytest.raises(ProgramMissing) as caught:
        run(["conntrack"])
    assert caught.value.next_step == "apt-get install conntrack"


def test_a_program_nobody_knows_has_no_package() -> None:
    with pytest.raises(ProgramMissing, match="frobnicate: no such program in /usr/local/sbin:") as caught:
        find("frobnicate")
    assert caught.value.next_step == ""
    with pytest.raises(ProgramMissing, match="/nonexistent/x: no such program"):
        find("/nonexistent/x")


def test_a_file_that_is_no_program_is_refused(tmp_path: Path) -> None:
    nothing = tmp_path / "nothing"
    nothing.write_bytes(b"")
    with pytest.raises(ProgramMissing):  # it may not be executed
        run([nothing])
    nothing.write_bytes(b"\x7fELF and no more")
    nothing.chmod(0o755)
    with pytest.raises(ProgramFailed, match="cannot start: Exec format error"):
        run([nothing])


def test_a_missing_directory_is_named() -> None:
    with pytest.raises(NotFound, match="ls: cannot start: /nonexistent"):
        spawn(["ls"], cwd=Path("/nonexistent"))


def test_a_directory_is_no_program(tmp_path: Path) -> None:
    with pytest.raises((ProgramMissing, NotPermitted)):
        run([tmp_path])


def test_a_child_is_spawned_with_descriptors_and_a_directory(netns: NetNs, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    code = f"import os; os.write({writing}, os.getcwd().encode())"
    child = spawn(python(code), netns=netns, cwd=tmp_path, pass_fds=[writing])
    os.close(writing)
    with os.fdopen(reading) as pipe:
        assert pipe.read() == str(tmp_path)
    assert child.wait(timeout_s=10) == 0
    assert child.poll() == 0
    assert child.wait(timeout_s=0) == 0


def test_the_streams_of_a_child_are_where_they_were_sent(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
        child = spawn(
            python("import sys; print(sys.stdin.read()); print('e', file=sys.stderr)"),
            stdout=out.fileno(),
            stderr=err.fileno(),
        )
        assert child.wait(timeout_s=10) == 0
    assert (tmp_path / "out").read_text() == "\n"  # its input was empty
    assert (tmp_path / "err").read_text() == "e\n"


def test_a_running_child_has_no_status_yet() -> None:
    child = spawn(["sleep", "60"])
    assert child.poll() is None
    with pytest.raises(TimedOut, match=rf"sleep \(pid {child.pid}\): still running after 0 s"):
        child.wait(timeout_s=0)
    child.signal(signal.SIGKILL)
    assert child.wait(timeout_s=10) == -signal.SIGKILL
    child.signal(signal.SIGKILL)  # it is gone: nobody is hit


def test_a_child_has_a_session_of_its_own() -> None:
    child = spawn(["sleep", "60"])
    attached = spawn(["sleep", "60"], new_session=False)
    try:
        assert os.getsid(child.pid) == child.pid
        assert os.getsid(attached.pid) == os.getsid(0)
    finally:
        assert child.terminate(grace_s=5) == attached.terminate(grace_s=5) == -signal.SIGTERM


STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "print('x', flush=True); time.sleep(60)"
)


def test_a_child_that_will_not_end_is_killed() -> None:
    reading, writing = os.pipe()
    child = spawn(python(STUBBORN), stdout=writing)
    os.close(writing)
    os.read(reading, 1)  # it is ready to ignore us
    os.close(reading)
    assert child.terminate(grace_s=0.05) == -signal.SIGKILL
    assert child.terminate(grace_s=0.05) == -signal.SIGKILL


def test_what_a_child_started_ends_with_it() -> None:
    reading, writing = os.pipe()
    stubborn_grandchild = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {STUBBORN!r}]); "
    child = spawn(python(stubborn_grandchild + "import time; time.sleep(60)"), stdout=writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read(1) == b"x"
        assert child.terminate(grace_s=5) == -signal.SIGTERM
        assert pipe.read() == b"\n"  # an end: the grandchild held the other side open
    assert identify(child.pid) is None


def test_an_event_loop_waits_for_a_child() -> None:
    async def wait() -> tuple[int, int, int]:
        quick, slow = spawn(["false"]), spawn(["sleep", "0.05"])
        statuses = await asyncio.gather(slow.exited(), quick.exited())
        return (*statuses, await quick.exited())

    assert asyncio.run(wait()) == (0, 1, 1)


@pytest.mark.parametrize(
    ("returncode", "words"),
    [
        pytest.param(3, "exit status 3", id="status"),
        pytest.param(-9, "ended by SIGKILL", id="signal"),
        pytest.param(-99, "ended by signal 99", id="signal without a name"),
    ],
)
def test_a_status_is_told_in_words(returncode: int, words: str) -> None:
    assert describe_status(returncode) == words


def test_a_child_that_is_ended_in_a_thread_is_heard_of_in_the_loop() -> None:
    async def once() -> int:
        child = spawn(["sleep", "100"])
        heard = asyncio.ensure_future(child.exited())
        await asyncio.sleep(0.002)
        await asyncio.to_thread(child.terminate, 0.0)
        return await asyncio.wait_for(heard, 10.0)

    async def several() -> list[int]:
        return [await once() for _ in range(10)]

    assert set(asyncio.run(several())) <= {-signal.SIGTERM, -signal.SIGKILL}
