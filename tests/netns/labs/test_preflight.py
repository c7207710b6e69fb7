"""Whether a machine can hold a lab is found out before anything is made."""

import pytest

from kubenet.errors import KernelLacks
from kubenet.kernel.netns import NetNs
from kubenet.kernel.rtnl import Rtnl
from kubenet.model.links import Link, LinkKind
from labs import preflight

pytestmark = pytest.mark.netns


def test_this_machine_can_hold_a_lab_and_keeps_nothing_of_the_try() -> None:
    with NetNs.current() as own, Rtnl(own) as rtnl:
        before = rtnl.observe()
        preflight.check()
        assert rtnl.observe() == before


def test_a_device_that_the_kernel_does_not_make_is_named() -> None:
    with pytest.raises(KernelLacks, match="the kernel makes no geneve devices") as raised:
        preflight.check(devices={"geneve": Link("try0", LinkKind.OTHER)})
    assert "modprobe geneve" in raised.value.next_step
    assert raised.value.exit_code == 4


def test_a_rule_that_cannot_be_loaded_is_named() -> None:
    with pytest.raises(KernelLacks, match="lacks what Services need") as raised:
        preflight.check(rules="*nat\n-A PREROUTING -m nosuchmatch -j RETURN\nCOMMIT\n")
    assert "nosuchmatch" in raised.value.message
