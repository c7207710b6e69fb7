"""The control loops at work: controllers and scheduler on informers."""

from kubenet.manager.config import ManagerConfig
from kubenet.manager.controlling import run_controllers
from kubenet.manager.scheduling import run_scheduler

__all__ = ["ManagerConfig", "run_controllers", "run_scheduler"]
