"""``kubenet completion``: the script that teaches a shell our commands, options and names."""

import click

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    \b
    bash:  kubenet completion bash > /etc/bash_completion.d/kubenet
    zsh:   kubenet completion zsh  > "${fpath[1]}/_kubenet"
    fish:  kubenet completion fish > ~/.config/fish/completions/kubenet.fish
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    root = ctx.find_root().command
    # Its own source() would start the shell only to ask for its version.
    script = found(root, {}, "kubenet", "_KUBENET_COMPLETE")
    print(script.source_template % script.source_vars())
