"""Attach pods to the network by executing CNI plugins, as a container runtime does.

Source: CNI specification 1.1.0 section 3.
"""

from pathlib import Path
from typing import Any

import msgspec

from kubenet.errors import KubenetError
from kubenet.kernel.netns import NetNs
from kubenet.kernel.run import ENVIRONMENT, Completed, run
from kubenet.model.objects import Json, JsonValue
from kubenet.node.cni_conf import (
    Attachment,
    NetworkList,
    chosen_file,
    parse_network,
    plugin_error,
    plugin_stdin,
)

PLUGIN_TIMEOUT_S = 60.0


class NetworkNotReady(KubenetError):
    """There is no network configuration yet."""


class PluginFailed(KubenetError):
    """A plugin refused, or could not do, what it was told."""


class PodNetwork:
    """The network of one node: a directory of configurations and one of plugins.

    Blocking; call it in a thread.
    """

    def __init__(self, node: NetNs, conf_dir: Path, bin_dir: Path) -> None:
        self._node = node
        self._conf_dir = conf_dir
        self._bin_dir = bin_dir

    def network(self) -> NetworkList:
        """Return the network that counts. Raises NetworkNotReady, NetworkConfigInvalid."""
        names = [entry.name for entry in self._conf_dir.iterdir()] if self._conf_dir.is_dir() else []
        name = chosen_file(names)
        if name is None:
            raise NetworkNotReady(f"no CNI configuration in {self._conf_dir}")
        path = self._conf_dir / name
        return parse_network(path.read_bytes(), str(path))

    def add(self, attachment: Attachment, cache: Path) -> Json:
        """Return the result of attaching; it is kept in ``cache`` for the DEL. Raises PluginFailed."""
        network = self.network()
        result: JsonValue = None
        for plugin in network.plugins:
            done = self._execute("ADD", plugin, attachment, network, result)
            result = _decode_result(done, str(plugin["type"]))
        assert isinstance(result, dict)
        kept: Json = {
            "name": network.name,
            "cniVersion": network.cni_version,
            "plugins": list(network.plugins),
            "result": result,
        }
        cache.write_bytes(msgspec.json.encode(kept))
        return result

    def delete(self, attachment: Attachment, cache: Path) -> None:
        """Detach; done again, or for what was never attached, it succeeds. Raises PluginFailed.

        The network is the one of the ADD, whatever the configuration says by now.
        """
        network, result = self._cached(cache)
        for plugin in reversed(network.plugins):
            self._execute("DEL", plugin, attachment, network, result)
        cache.unlink(missing_ok=True)

    def _cached(self, cache: Path) -> tuple[NetworkList, JsonValue]:
        try:
            kept = msgspec.json.decode(cache.read_bytes(), type=_Kept)
        except (FileNotFoundError, msgspec.DecodeError):
            return self.network(), None  # the ADD did not get to its end
        return NetworkList(kept.name, kept.cniVersion, kept.plugins), kept.result

    def _execute(
        self, command: str, plugin: Json, attachment: Attachment, network: NetworkList, result: JsonValue
    ) -> Completed:
        path = self._bin_dir / str(plugin["type"])
        done = run(
            [path],
            netns=self._node,
            stdin=plugin_stdin(network, plugin, result, {}),
            env={**ENVIRONMENT, **attachment.environment(command, str(self._bin_dir))},
            timeout_s=PLUGIN_TIMEOUT_S,
            check=False,
        )
        if done.returncode != 0:
            why = plugin_error(done.stdout, done.stderr, done.returncode)
            raise PluginFailed(f"CNI {command} by {path.name}: {why}")
        return done


class _Kept(msgspec.Struct, frozen=True):
    name: str
    cniVersion: str  # noqa: N815 - as CNI spells it
    plugins: tuple[dict[str, Any], ...]
    result: dict[str, Any] | None = None


def _decode_result(done: Completed, plugin: str) -> Json:
    try:
        return msgspec.json.decode(done.stdout, type=dict)
    except msgspec.DecodeError as error:
        raise PluginFailed(f"CNI ADD by {plugin}: its result is not JSON: {error}") from error
