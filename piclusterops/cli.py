"""The command line of PiClusterOps."""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()  # pyinfra's connections need it, before anything imports ssl or socket

import json
from pathlib import Path

import click
from rich.console import Console

from piclusterops import __version__, kubeconfig
from piclusterops.check_command import check
from piclusterops.facts.kube import Nodes
from piclusterops.firewall_command import firewall
from piclusterops.lab.commands import lab as lab_commands
from piclusterops.lock_command import lock
from piclusterops.plan_command import plan
from piclusterops.secrets_command import secrets
from piclusterops.session import CommandFailed, connected, output_of
from piclusterops.status import missing_nodes, status_table
from piclusterops.vault_command import vault
from piclusterops.verbs import env_option, load, plain_errors
from piclusterops.vpn_command import vpn


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="picluster")
def main() -> None:
    """Raspberry Pis into a hardened K3s cluster: look at it, fetch its kubeconfig, pin its artefacts, try it in a lab.

    The cluster itself is made and changed by pyinfra: pyinfra inventories/prod.py deploys/site.py
    """


@main.command()
@env_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(env: str, as_json: bool) -> None:
    """Show the nodes: roles, Ready, age, versions, taints. Exit code 1 when one is not Ready or missing."""
    with plain_errors():
        _, inventory, cluster = load(env)
        with connected(inventory, cluster.first_server.name) as host:
            nodes = host.get_fact(Nodes)
        if nodes is None:
            raise CommandFailed(
                f"{cluster.first_server.name}: the Kubernetes API does not answer\n"
                f"Try: pyinfra -y inventories/{env}.py deploys/site.py"
            )
    missing = missing_nodes(cluster, nodes)
    if as_json:
        click.echo(json.dumps({"nodes": [node.as_dict() for node in nodes], "missing": missing}, indent=2))
    else:
        Console().print(status_table(cluster, nodes))
    if missing or not all(node.ready for node in nodes):
        raise SystemExit(1)


@main.command("kubeconfig")
@env_option
@click.option(
    "--file",
    "target",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("~/.kube/config"),
    show_default=True,
    help="The kubeconfig to merge into.",
)
def kubeconfig_command(env: str, target: Path) -> None:
    """Fetch the cluster's kubeconfig and merge it under its own context.

    The current context stays as it is; a backup of the file is kept.
    """
    with plain_errors():
        _, inventory, cluster = load(env)
        first = cluster.first_server
        with connected(inventory, first.name) as host:
            fetched = output_of(host, "cat /etc/rancher/k3s/k3s.yaml")
        context = cluster.settings.cluster_name
        path = target.expanduser()
        kubeconfig.merge_file(path, kubeconfig.rewrite(fetched, context, first.address))
    click.echo(f"Merged into {path}. Try: kubectl --context {context} get nodes")


main.add_command(check)
main.add_command(firewall)
main.add_command(lab_commands)
main.add_command(lock)
main.add_command(plan)
main.add_command(secrets)
main.add_command(vault)
main.add_command(vpn)

if __name__ == "__main__":
    main()
