"""What an administrator may change while the agent runs: a small YAML file. *Pure.*

    nonMasqueradeCIDRs: [192.168.0.0/16, fd12::/16]   # reached with the pod's own address
    directRouting: auto                               # off (default), on, auto
    excludedCIDRs: [10.244.0.0/28]                    # no pod gets these addresses
    addressCooldownSeconds: 30                        # so long an address rests, also if others wait for it

The first key is that of ip-masq-agent, whose files so serve as they are; keys of it that we do not know are
ignored.
"""

from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_network
from typing import Annotated

import msgspec
import yaml

from ipam.pool import NO_RULES, PoolRules
from kubenet.errors import InvalidInput
from kubenet.model.links import IPNetwork


class DirectRouting(Enum):
    """Whether peers on the underlay's own network are reached without the tunnel."""

    OFF = "off"
    ON = "on"
    AUTO = "auto"  # those that answer there; the others by the tunnel


@dataclass(frozen=True, slots=True)
class Settings:
    """What the file says, or what holds without one."""

    non_masquerade_cidrs: tuple[IPNetwork, ...] = ()
    direct_routing: DirectRouting = DirectRouting.OFF
    pool_rules: PoolRules = NO_RULES


class _File(msgspec.Struct, frozen=True, rename="camel"):
    non_masquerade_cidrs: tuple[str, ...] = msgspec.field(name="nonMasqueradeCIDRs", default=())
    direct_routing: str | bool = "off"  # YAML 1.1 takes "on" and "off" for truth values
    excluded_cidrs: tuple[str, ...] = msgspec.field(name="excludedCIDRs", default=())
    address_cooldown_seconds: Annotated[float, msgspec.Meta(ge=0)] = 0.0


def read_settings(content: str, subject: str) -> Settings:
    """Return what the file says. Raises InvalidInput, naming the file (``subject``) and the value."""
    try:
        file = msgspec.convert(yaml.safe_load(content) or {}, _File)
        cidrs = tuple(ip_network(cidr) for cidr in file.non_masquerade_cidrs)
        excluded = tuple(ip_network(cidr) for cidr in file.excluded_cidrs)
        rules = PoolRules(excluded, file.address_cooldown_seconds)
        return Settings(cidrs, _direct(file.direct_routing), rules)
    except (yaml.YAMLError, msgspec.ValidationError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InvalidInput(
            f"{subject}: {reason}", "correct the file; until then what was read before holds"
        ) from error


def _direct(value: str | bool) -> DirectRouting:
    if isinstance(value, bool):
        return DirectRouting.ON if value else DirectRouting.OFF
    return DirectRouting(value)
