"""Whether a link leaves checksums to the device below it.

Source: linux/ethtool.h, netdevice(7).
"""

import array
import errno
import fcntl
import os
import socket
import struct

from kubenet.errors import KernelLacks, KubenetError, NotFound
from kubenet.kernel.codec import checked_ifname
from kubenet.kernel.netns import NetNs

_SIOCETHTOOL = 0x8946  # linux/sockios.h
_GET_TX_CHECKSUM, _SET_TX_CHECKSUM = 0x16, 0x17
_IFREQ = struct.Struct("16sP16x")


def leaves_checksums(netns: NetNs, ifname: str) -> bool:
    """Whether packets leave ``ifname`` without checksums. Raises NotFound, KernelLacks, KubenetError."""
    return bool(_ethtool(netns, ifname, _GET_TX_CHECKSUM, 0))


def leave_checksums(netns: NetNs, ifname: str, *, on: bool) -> None:
    """Have checksums computed below ``ifname``, or before it. Raises as ``leaves_checksums``."""
    _ethtool(netns, ifname, _SET_TX_CHECKSUM, int(on))


def _ethtool(netns: NetNs, ifname: str, command: int, value: int) -> int:
    word = array.array("I", (command, value))
    request = _IFREQ.pack(checked_ifname(ifname).encode(), word.buffer_info()[0])
    with netns.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            fcntl.ioctl(asking.fileno(), _SIOCETHTOOL, request)
        except OSError as error:
            kind = {errno.ENODEV: NotFound, errno.EOPNOTSUPP: KernelLacks}.get(error.errno or 0, KubenetError)
            raise kind(f"{ifname}: checksum offload: {os.strerror(error.errno or 0)}") from error
    return int(word[1])
