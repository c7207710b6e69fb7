"""``kubenet proxy``: the service proxy of a node."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from kubenet import __version__
from kubenet.cli.output import OUTPUT, print_json
from kubenet.errors import InvalidInput

if TYPE_CHECKING:
    from proxy.config import Settings
    from proxy.node_config import ProxyConfig
    from proxy.simulate import Course
    from proxy.source import Source

F = TypeVar("F", bound=Callable[..., object])

_WHY = "the proxy programs the kernel"
READ_PATIENCE_S = 30.0  # for an API server to tell everything once


def _kube_proxy_flags(command: F) -> F:
    """Give ``command`` every flag of the table of options; what is said comes in as text."""
    from proxy.config_options import OPTIONS
    from proxy.config_values import read_bool

    for option in reversed(OPTIONS):
        if not option.flag:
            continue
        hidden = not option.help
        command = click.option(
            f"--{option.flag}",
            default=None,
            is_flag=False,
            flag_value="true" if option.read is read_bool else None,
            help=option.help,
            hidden=hidden,
        )(command)
    return command


@click.group(invoke_without_command=True)
@_kube_proxy_flags
@click.option(
    "--config",
    "config_path",
    type=Path,
    help="A KubeProxyConfiguration; what it says wins. When it changes, the proxy ends, to be started anew.",
)
@click.option(
    "--write-config-to", type=Path, help="Write what was said as a KubeProxyConfiguration, and end."
)
@click.version_option(__version__, prog_name="kubenet proxy")
@click.option("--source-file", type=Path, help="Services and EndpointSlices from YAML or JSON, not an API.")
@click.option("--dry-run", is_flag=True, help="Print the rules and change nothing.")
@click.option("--once", is_flag=True, help="Write the rules once and end.")
@click.option("--init-only", is_flag=True, help="Only set what needs privileges in the kernel, and end.")
@click.option("--cleanup", is_flag=True, help="Take all rules out, kube-proxy's too, and end.")
@click.pass_context
def proxy(ctx: click.Context, /, **said: object) -> None:
    """Program this machine's kernel so that Services reach their endpoints.

    The flags are kube-proxy's where they mean the same. Rules stay in place when this ends; --cleanup takes
    them out.

        kubenet proxy --kubeconfig FILE --hostname-override node-1
    """
    ctx.obj = said
    if ctx.invoked_subcommand is None:
        _run(said)


@proxy.command()
@click.argument("source")
@click.argument("destination")
@click.option("--protocol", type=click.Choice(["TCP", "UDP", "SCTP"]), default="TCP", show_default=True)
@click.option("--interface", "ifname", default="", help="What the packet comes in by.")
@OUTPUT
@click.pass_context
def explain(
    ctx: click.Context, source: str, destination: str, protocol: str, ifname: str, output: str
) -> None:
    """Say where a connection from SOURCE to DESTINATION (IP:PORT) goes, and by which rules.

    Nothing is sent: the rules that this node would have are walked. The exit code is 1 if it goes nowhere.

        kubenet proxy --source-file cluster.yaml explain 10.244.1.9 10.96.0.10:53 --protocol UDP
    """
    from kubenet.cli.proxy_run import with_mode
    from kubenet.model.protocol import Protocol
    from proxy.explain import explained, packet_of
    from proxy.simulate import Stopped

    settings = with_mode(_settings(ctx.obj))
    found = _read_once(settings, ctx.obj)
    config = _config(settings)
    packet = packet_of(source, destination, Protocol(protocol), ifname)
    courses = explained(config, found, packet)
    if output == "json":
        print_json("Explanation", {"courses": [_as_json(course) for course in courses]})
    else:
        for course in courses:
            print(_as_text(course))
    sys.exit(1 if any(isinstance(course.outcome, Stopped) for course in courses) else 0)


def _as_json(course: "Course") -> Mapping[str, object]:
    from proxy.explain import deciding_step, outcome_words

    return {
        "chance": str(course.chance),
        "outcome": outcome_words(course),
        "rules": [str(step) for step in course.steps],
        "decidedBy": str(deciding_step(course) or ""),
        "rulesPassed": course.passed,
    }


def _as_text(course: "Course") -> str:
    from proxy.explain import deciding_step, outcome_words

    steps = [f"    {step}" for step in course.steps]
    decided = deciding_step(course)
    reason = f"decided by {decided}" if decided else "no rule takes it"
    return "\n".join([f"{course.chance}: {outcome_words(course)}", *steps, f"  {reason}"])


def _run(said: Mapping[str, object]) -> None:
    from kubenet.cli.proxy_run import clean_up, print_rules, with_mode, write_config
    from kubenet.kernel.privileges import require_net_admin

    if said["cleanup"]:
        require_net_admin(_WHY)
        print(f"{clean_up()} chains and tables removed")
        return
    settings = _settings(said)
    _log(settings.verbosity)
    for name in settings.ignored:
        click.echo(f"kubenet proxy: {name} has no effect here", err=True)
    if isinstance(path := said["write_config_to"], Path):
        write_config(settings, path)
    elif said["dry_run"]:
        settings = with_mode(settings)
        print_rules(_config(settings), _read_once(settings, said))
    else:
        require_net_admin(_WHY)
        _program_kernel(with_mode(settings), said)


def _program_kernel(settings: "Settings", said: Mapping[str, object]) -> None:
    from kubenet.cli.proxy_run import run_until_signal, write_once
    from proxy.node_settings import apply_settings

    for complaint in apply_settings(None, settings):
        click.echo(f"kubenet proxy: {complaint}", err=True)
    if said["init_only"]:
        return
    if said["once"]:
        write_once(_config(settings), _read_once(settings, said))
        return
    run_until_signal(_config(settings), settings, _source_file(said), _config_file(said))


def _log(verbosity: int) -> None:
    """Say as much as kube-proxy's --v asks for; what ``kubenet -v`` asked for stays."""
    import logging

    if verbosity >= 2 and not logging.getLogger().handlers:
        level = logging.INFO if verbosity < 4 else logging.DEBUG
        logging.basicConfig(level=level, format="%(asctime)s %(levelname).1s %(name)s: %(message)s")


def _settings(said: Mapping[str, object]) -> "Settings":
    from proxy.config import Settings, with_file, with_flags
    from proxy.config_options import OPTIONS

    names = {option.flag: option.flag.replace("-", "_") for option in OPTIONS if option.flag}
    flags = {flag: str(said[name]) for flag, name in names.items() if said.get(name) is not None}
    settings = with_flags(Settings(), flags)
    if path := _config_file(said):
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput(f"{path}: cannot be read: {error}") from error
        settings = with_file(settings, text, str(path))
    return settings


def _config_file(said: Mapping[str, object]) -> Path | None:
    path = said["config_path"]
    return path if isinstance(path, Path) else None


def _source_file(said: Mapping[str, object]) -> Path | None:
    path = said["source_file"]
    return path if isinstance(path, Path) else None


def _config(settings: "Settings") -> "ProxyConfig":
    from kubenet.cli.proxy_run import config_of

    return config_of(settings)


def _read_once(settings: "Settings", said: Mapping[str, object]) -> "Source":
    from kubenet.cli.proxy_run import read_once

    return read_once(settings, _source_file(said), READ_PATIENCE_S)
