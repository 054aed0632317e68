"""What the platform's own vault says of itself, asked on a server of the cluster."""

from __future__ import annotations

from pyinfra.api import FactBase

from piclusterops.vault import Pod, Seal, VaultError, parse, seal_command, seal_of


class VaultSeal(FactBase[Seal | None]):
    """Whether the vault is initialised and sealed; None where it does not answer."""

    def command(self, pod: Pod) -> str:
        return seal_command(pod)

    def process(self, output: list[str]) -> Seal | None:
        try:
            return seal_of(parse(Pod("", ""), "\n".join(output)))
        except VaultError:
            return None
