"""The ``kubenet`` command: composes everything, imports lazily.

A command's module is imported only when that command runs, so that ``kubenet --help`` costs an interpreter
and click. The exit codes are a promise: see docs/exit-codes.md.
"""

import importlib
import sys
from collections.abc import Sequence

import click

from kubenet import __version__
from kubenet.errors import KubenetError

EXIT_INTERNAL = 70
EXIT_INTERRUPTED = 130

# name: (module, attribute, one line of help)
COMMANDS = {
    "agent": ("kubenet.cli.agent", "agent", "Serve the pod network of this node."),
    "apiserver": ("kubenet.cli.apiserver", "apiserver", "Serve the Kubernetes API."),
    "apply": ("kubenet.cli.apply", "apply", "Create or change the objects of a manifest file."),
    "break": ("kubenet.cli.break_", "break_", "Exercises: find what is broken in a lab, and repair it."),
    "completion": ("kubenet.cli.completion", "completion", "Print the completion script of a shell."),
    "cni": ("kubenet.cli.cni", "cni", "Drive CNI plugins as a container runtime does."),
    "demo": ("kubenet.cli.demo", "demo", "Boot a cluster, carry real traffic through it, tear it down."),
    "dns": ("kubenet.cli.dns", "dns", "Serve the cluster's names, or ask a DNS server."),
    "proxy": ("kubenet.cli.proxy", "proxy", "Make Services reach their endpoints on this node."),
    "ipam": ("kubenet.cli.ipam", "ipam", "Who holds which address on this node."),
    "capture": ("kubenet.cli.capture", "capture", "Show packets at every interface that they pass."),
    "watch": ("kubenet.cli.watch", "watch", "Drops, connections, rules, links or DNS, as they happen."),
    "check": ("kubenet.cli.check", "check", "Is the pod network as it should be?"),
    "doctor": ("kubenet.cli.doctor", "doctor", "Can this machine run a pod network, and see into it?"),
    "dump": ("kubenet.cli.dump", "dump", "Write all that a check looks at to a file."),
    "explain": ("kubenet.cli.explain", "explain", "What a code means; where the tables say a packet goes."),
    "trace": ("kubenet.cli.trace", "trace", "Send one packet and tell its whole way."),
    "learn": ("kubenet.cli.learn", "learn", "The exercises as a course, track by track."),
    "lab": ("kubenet.cli.lab", "lab", "Clusters of network namespaces on this machine."),
}


class LazyGroup(click.Group):
    """A group whose commands live in modules that are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][2]) for name in sorted(COMMANDS)])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            raise click.UsageError(f"{error.message}{_did_you_mean(args[0])}", ctx) from None


def _did_you_mean(typed: str) -> str:
    import difflib

    near = difflib.get_close_matches(typed, COMMANDS, n=1)
    return f" Did you mean '{near[0]}'?" if near else ""


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="kubenet")
@click.option("-v", "--verbose", count=True, help="Say more on stderr; twice for everything.")
def cli(verbose: int) -> None:
    """The Kubernetes pod network, end to end.

    Start with: kubenet demo
    """
    if not verbose:
        return  # warnings reach stderr without any set-up, and loading the module costs a third of "--help"
    import logging

    level = logging.INFO if verbose == 1 else logging.DEBUG
    logging.basicConfig(level=level, format="%(asctime)s %(levelname).1s %(name)s: %(message)s")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; every expected failure ends in one clear line."""
    try:
        result = cli.main(
            args=None if argv is None else list(argv),
            prog_name="kubenet",
            standalone_mode=False,
            auto_envvar_prefix="KUBENET",  # --nodes of "lab up" is KUBENET_LAB_UP_NODES
        )
    except click.UsageError as error:
        return _usage_error(error)
    except click.ClickException as error:
        print(f"kubenet: {error.format_message()}", file=sys.stderr)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        print("kubenet: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except KubenetError as error:
        print(_one_line(error), file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        sys.stderr.close()  # the reader has gone; the interpreter would complain about stdout at exit
        return 1
    except Exception as error:  # noqa: BLE001 - the last resort: a bug must not look like an answer
        return _internal_error(error)
    return result if isinstance(result, int) else 0


def _one_line(error: KubenetError) -> str:
    return f"kubenet: {error.message}" + (f"; next: {error.next_step}" if error.next_step else "")


def _usage_error(error: click.UsageError) -> int:
    where = error.ctx.command_path if error.ctx else "kubenet"
    print(f"{where}: {error.format_message()}; next: {where} --help", file=sys.stderr)
    return error.exit_code


def _internal_error(error: Exception) -> int:
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile("w", prefix="kubenet-error-", suffix=".txt", delete=False) as report:
        report.write("".join(traceback.format_exception(error)))
    print(
        f"kubenet: internal error: {type(error).__name__}: {error}; next: report it with {report.name}",
        file=sys.stderr,
    )
    return EXIT_INTERNAL
