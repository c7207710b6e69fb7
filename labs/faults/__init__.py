"""What can be broken in a lab: a fault is a value, read from an exercise's file. *Pure.*"""

from typing import TypeAlias

from labs.faults.cluster import (
    ConntrackEntry,
    DaemonStopped,
    FileChanged,
    Filter,
    ObjectAdded,
    ObjectChanged,
    RulesFlushed,
)
from labs.faults.network import (
    AddressExtra,
    FdbGone,
    LinkDown,
    LinkMtu,
    NeighbourGone,
    NeighbourWrong,
    PolicyRoute,
    RouteGone,
    RouteWrong,
    Setting,
    TunnelWrong,
)

AnyFault: TypeAlias = (
    RouteGone
    | RouteWrong
    | PolicyRoute
    | LinkDown
    | AddressExtra
    | LinkMtu
    | NeighbourGone
    | NeighbourWrong
    | FdbGone
    | TunnelWrong
    | Setting
    | Filter
    | ObjectChanged
    | ObjectAdded
    | FileChanged
    | DaemonStopped
    | ConntrackEntry
    | RulesFlushed
)
