"""``kubenet doctor``: can this machine run a pod network, and see into it?"""

import sys

import click

from kubenet.cli.output import OUTPUT, print_json


@click.command()
@OUTPUT
def doctor(output: str) -> None:
    """Try each kernel feature in a throw-away namespace and say what is missing.

    Nothing of this machine's own network is touched. The exit code is 4 if something is missing without which
    there is no pod network.
    """
    import platform

    from kubenet import __version__
    from kubenet.kernel.privileges import require_root
    from kubenet.observe.doctor import Need, examine

    require_root("trying kernel features is root's")
    tried = examine()
    if output == "json":
        rows = [
            {"feature": t.feature.name, "works": not t.error, "need": t.feature.need.value, "error": t.error}
            for t in tried
        ]
        versions = {"kubenet": __version__, "kernel": platform.release(), "python": platform.python_version()}
        print_json("Doctor", {"features": rows, **versions})
    else:
        print(f"kubenet {__version__}, Linux {platform.release()}, Python {platform.python_version()}")
        for each in tried:
            print(
                f"{each.word:<5} {each.feature.name:<30}" + (f" {each.feature.without}" if each.error else "")
            )
            if each.error:
                print(f"{'':<6}{each.error}")
    sys.exit(4 if any(t.error and t.feature.need is Need.NETWORK for t in tried) else 0)
