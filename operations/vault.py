"""Operations on the platform's own vault."""

from __future__ import annotations

from collections.abc import Callable

from pyinfra import host
from pyinfra.api import FunctionCommand, operation
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.host import Host
from pyinfra.api.state import State

from piclusterops.facts.vault import VaultSeal
from piclusterops.operations.managed import Commands
from piclusterops.operations.quiet import fail, privileges, run_quietly
from piclusterops.secrets import SecretStore
from piclusterops.vault import CURL, Pod, Request, Response, Send, Vault, VaultError, curl_config, parse


@operation()
def unsealed(pod: Pod, store: SecretStore, server: str, failed: Callable[[str], None] | None = None) -> Commands:
    """
    Unseal the platform's vault, which is sealed after every start, with the keys of the store.

    + pod: where it runs
    + store: the secrets of the environment
    + server: name of the host to ask; on others nothing happens
    + failed: told why, when it can't be

    One that does not answer, is not initialised, or whose keys are kept elsewhere is left alone, and said to be.
    """
    if host.name != server:
        host.noop(f"done on {server}")
        return
    seal = host.get_fact(VaultSeal, pod=pod)
    if seal is None:
        host.noop(f"{pod} does not answer")
    elif not seal.initialised:
        host.noop(f"{pod} is not initialised: picluster vault init{store.option}")
    elif not seal.sealed:
        host.noop(f"{pod} is not sealed")
    else:
        yield FunctionCommand(_unseal, (pod, store, failed), {})


def _unseal(state: State, host: Host, pod: Pod, store: SecretStore, failed: Callable[[str], None] | None) -> bool:
    vault = Vault(_send_over(host, pod), store, str(pod))
    try:
        if not vault.unseal_keys():
            host.log_styled(f"{pod} stays sealed: its keys are not in {store.provider.title}", fg="yellow")
            return True
        vault.unseal()
    except PyinfraError as error:
        if failed:
            failed(str(error))
        return fail(host, str(error))
    return True


def _send_over(target: Host, pod: Pod) -> Send:
    arguments = privileges(target)

    def send(request: Request) -> Response:
        ok, output = run_quietly(target, CURL, arguments, stdin=curl_config(pod, request))
        if not ok:
            raise VaultError(f"{pod} can't be asked: {output.stderr.strip() or 'curl failed'}")
        return parse(pod, output.stdout)

    return send
