"""Start a program as a container sees it, or inside a container that runs. A program of its own, run with
``python -I -S``.

It imports next to nothing, because a pod waits for it. The network namespace is the caller's business: this
is started inside it.

``launch.py start --ready FD --hostname NAME --bind FILE TARGET ... -- PROGRAM ARG...``
    gives the program a mount namespace with ``FILE`` in the place of ``TARGET``, a host name, and the
    capabilities of an ordinary container, and becomes the program.
``launch.py join PID -- PROGRAM ARG...``
    enters the mount, host name and network namespaces of process PID, and becomes the program.

Source: mount_namespaces(7), uts_namespaces(7), capabilities(7), prctl(2).
"""

import ctypes
import os
import sys

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWNET = 0x00020000, 0x04000000, 0x40000000
MS_BIND, MS_REC, MS_SLAVE, MNT_DETACH = 4096, 16384, 1 << 19, 2
PR_CAPBSET_READ, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 23, 24, 38

# What container engines leave to a container by default; above all neither NET_ADMIN nor SYS_ADMIN.
KEPT_CAPABILITIES = {
    0,  # CHOWN
    1,  # DAC_OVERRIDE
    3,  # FOWNER
    4,  # FSETID
    5,  # KILL
    6,  # SETGID
    7,  # SETUID
    8,  # SETPCAP
    10,  # NET_BIND_SERVICE
    13,  # NET_RAW
    18,  # SYS_CHROOT
    27,  # MKNOD
    29,  # AUDIT_WRITE
    31,  # SETFCAP
}

libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, act: str) -> None:
    """End with one line that says what failed."""
    if result != 0:
        sys.exit("cannot " + act + ": " + os.strerror(ctypes.get_errno()))


def start(options: list[str], program: list[str]) -> None:
    """Become a container's program."""
    check(libc.unshare(CLONE_NEWNS | CLONE_NEWUTS), "make mount and host name namespaces")
    check(libc.mount(None, b"/", None, MS_REC | MS_SLAVE, None), "detach the mounts from the machine's")
    drop_pinned_namespaces()
    while options:
        word = options.pop(0)
        if word == "--hostname":
            name = os.fsencode(options.pop(0))
            check(libc.sethostname(name, len(name)), "set the host name")
        elif word == "--bind":
            source, target = options.pop(0), options.pop(0)
            mounted = libc.mount(
                os.fsencode(source), os.fsencode(os.path.realpath(target)), None, MS_BIND, None
            )
            check(mounted, "put " + source + " in the place of " + target)
        elif word == "--ready":
            os.set_inheritable(int(options.pop(0)), False)  # closed by becoming the program: then it is ready
        else:
            sys.exit("launch.py: what is " + word)
    check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "give up new privileges")
    for number in range(64):
        if number not in KEPT_CAPABILITIES and libc.prctl(PR_CAPBSET_READ, number, 0, 0, 0) == 1:
            check(libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0), "give up capability " + str(number))
    become(program)


def drop_pinned_namespaces() -> None:
    """Let go of our copies of pinned namespaces: they would keep the namespaces of other pods alive after
    these are gone.
    """
    with open("/proc/self/mountinfo") as mounts:
        pins = [line.split(" ")[4] for line in mounts if " - nsfs " in line]
    for pin in reversed(pins):
        libc.umount2(os.fsencode(pin.replace("\\040", " ")), MNT_DETACH)


def join(pid: str, program: list[str]) -> None:
    """Become a program inside a container that runs."""
    try:
        opened = [os.open("/proc/" + pid + "/ns/" + kind, os.O_RDONLY) for kind in ("net", "uts", "mnt")]
    except OSError as error:
        sys.exit("cannot enter process " + pid + ": " + str(error.strerror))
    for descriptor in opened:
        check(libc.setns(descriptor, 0), "enter a namespace of process " + pid)
        os.close(descriptor)
    become(program)


def become(program: list[str]) -> None:
    """Replace this process."""
    try:
        os.execvp(program[0], program)
    except OSError as error:
        sys.stderr.write(program[0] + ": " + str(error.strerror) + "\n")
        sys.exit(127 if isinstance(error, FileNotFoundError) else 126)


def main(words: list[str]) -> None:
    """Read the command line."""
    split = words.index("--")
    mode, options, program = words[0], words[1:split], words[split + 1 :]
    if mode == "start":
        start(options, program)
    else:
        join(options[0], program)


if __name__ == "__main__":
    main(sys.argv[1:])
