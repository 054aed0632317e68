"""The platform's own vault, HashiCorp Vault or OpenBao: initialised, unsealed and set up over its HTTP API.

Both speak the same API (https://openbao.org/api-docs/system/, secret/kv/kv-v2 and auth/kubernetes). How a request gets
there is the caller's: `Send`. Nothing here shows a key, a token or a value.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from shlex import quote
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr
from pyinfra.api.exceptions import PyinfraError

from piclusterops.catalogue import Release
from piclusterops.k3s_config import DATA_DIR
from piclusterops.secrets import UNSEAL, SecretsError, SecretStore

#: Names that the chart platform-config gives its ClusterSecretStore: mount of the KV engine, mount of the login, role.
KV_MOUNT, LOGIN_MOUNT, ROLE = "platform", "kubernetes", "external-secrets"
#: ServiceAccount and namespace of External Secrets, in the chart's words.
SERVICE_ACCOUNT, SERVICE_NAMESPACE = "external-secrets", "external-secrets"
#: What External Secrets may do: read what we put there, and nothing else.
POLICY = f"""\
path "{KV_MOUNT}/data/*" {{
  capabilities = ["read"]
}}
path "{KV_MOUNT}/metadata/*" {{
  capabilities = ["read", "list"]
}}
"""
#: The audit device: lines of JSON on standard output, with secrets as keyed hashes. A file has to be rotated by
#: someone, and a vault whose only audit device can't be written to answers nobody; the kubelet rotates standard
#: output, and Fluentd collects it. (https://developer.hashicorp.com/vault/docs/audit/file, openbao.org/docs/audit/file)
AUDIT_PATH = "stdout"
AUDIT_DEVICE: Mapping[str, Any] = {"type": "file", "options": {"file_path": "stdout", "log_raw": "false"}}
#: Shares that the store is asked for; a vault may have 255, but nobody types so many.
MOST_SHARES = 20
_API = "https://127.0.0.1:6443"
_TLS = f"{DATA_DIR}/server/tls"
#: After an unseal it takes a server of Raft a few seconds to elect itself.
_ACTIVE_TIMEOUT_S = 60
_REQUEST_TIMEOUT_S = 30
#: One that is there says at once whether it is sealed.
_LOOK_TIMEOUT_S = 5
_POLL_S = 1.0


class VaultError(PyinfraError):
    """The vault can't be used; the text says why and what to do.

    A subclass of pyinfra's error, so that its command line prints the message without a traceback.
    """


@dataclass(frozen=True)
class Request:
    """A request to the vault; `path` is what follows ``/v1/``."""

    method: str
    path: str
    body: Mapping[str, Any] | None = field(default=None, repr=False)
    token: SecretStr | None = None


@dataclass(frozen=True)
class Response:
    """What the vault answers: HTTP status and JSON."""

    status: int
    body: dict[str, Any] = field(repr=False)

    @property
    def data(self) -> dict[str, Any]:
        """The part that holds what was asked for."""
        found = self.body.get("data")
        return found if isinstance(found, dict) else {}

    @property
    def errors(self) -> str:
        """What the vault says went wrong."""
        found = self.body.get("errors")
        return "; ".join(str(word) for word in found if word) if isinstance(found, list) else ""


Send = Callable[[Request], Response]


@dataclass(frozen=True)
class Seal:
    """Whether the vault can be used."""

    initialised: bool
    sealed: bool
    kind: str
    """How it is unsealed: `shamir` by keys, anything else by itself."""
    threshold: int
    shares: int
    progress: int
    version: str


def seal_of(answer: Response) -> Seal | None:
    """What an answer says of the seal; None when it says nothing."""
    body = answer.body
    if not isinstance(body.get("sealed"), bool):
        return None
    return Seal(
        initialised=bool(body.get("initialized", True)),
        sealed=body["sealed"],
        kind=str(body.get("type") or "shamir"),
        threshold=int(body.get("t") or 0),
        shares=int(body.get("n") or 0),
        progress=int(body.get("progress") or 0),
        version=str(body.get("version") or "unknown"),
    )


# -- the way there -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pod:
    """The pod that the vault's server is."""

    namespace: str
    name: str
    port: int = 8200
    scheme: str = "https"

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def url(self) -> str:
        """Its HTTP API, as a server of the cluster reaches it: through kube-apiserver, which finds the pod."""
        return f"{_API}/api/v1/namespaces/{self.namespace}/pods/{self.scheme}:{self.name}:{self.port}/proxy/v1/"


def pod_of(releases: Iterable[Release]) -> Pod | None:
    """The pod of the release that is the platform's vault, if one of these is.

    Raises:
        VaultError: the catalogue does not say where it is.
    """
    for release in releases:
        contract = release.provides.get("vault")
        if contract is None:
            continue
        url = urlsplit(contract.get("url", ""))
        if not contract.get("pod") or not release.namespace or not url.port:
            raise VaultError(f"{release.name}: the catalogue does not say in which pod and at which port it is.")
        return Pod(release.namespace, contract["pod"], url.port, url.scheme)
    return None


#: Reads the whole request, with token and body, from standard input: `ps` shows none of it.
CURL = "curl --config -"


def curl_config(pod: Pod, request: Request) -> str:
    """The configuration of curl for a request, on a server of the cluster."""
    options = {"url": pod.url + request.path, "request": request.method, **_connection(_REQUEST_TIMEOUT_S)}
    if request.token:
        options["header"] = f"X-Vault-Token: {request.token.get_secret_value()}"
    if request.body is not None:
        options["data-binary"] = json.dumps(request.body)
    lines = [f"{name} = {_quoted(value)}" for name, value in options.items()]
    return "\n".join(["silent", "show-error", *lines, ""])


def _connection(timeout_s: int) -> dict[str, str]:
    """How curl reaches kube-apiserver, as the cluster's admin."""
    return {
        "cert": f"{_TLS}/client-admin.crt",
        "key": f"{_TLS}/client-admin.key",
        "cacert": f"{_TLS}/server-ca.crt",
        "noproxy": "*",
        "max-time": str(timeout_s),
        "write-out": r"\n%{http_code}",
    }


def seal_command(pod: Pod) -> str:
    """A command that asks whether the vault is sealed, for `parse`; silent where there is no cluster."""
    options = " ".join(f"--{name} {quote(value)}" for name, value in _connection(_LOOK_TIMEOUT_S).items())
    return f"curl --silent {options} {quote(pod.url + 'sys/seal-status')} || true"


def _quoted(text: str) -> str:
    for plain, escaped in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t"), ("\v", "\\v")):
        text = text.replace(plain, escaped)
    return f'"{text}"'


def parse(pod: Pod, output: str) -> Response:
    """The response in what curl printed.

    Raises:
        VaultError: it is none of the vault's, but kube-apiserver's: there is no such pod, or it does not answer.
    """
    text, _, status = output.rpartition("\n")
    body = _json(text)
    if body is None and status.startswith("5"):
        # What older ones say in plain text.
        raise VaultError(f"{pod} can't be reached: {text.strip()[:200]}.\n{_look(pod)}")
    if not status.isdigit() or body is None:
        raise VaultError(f"{pod}: what answers is no vault (HTTP status {status or 'unknown'}).\n{_look(pod)}")
    if body.get("kind") == "Status":
        raise VaultError(f"{pod} can't be reached: {body.get('message') or 'HTTP status ' + status}.\n{_look(pod)}")
    return Response(int(status), body)


def _json(text: str) -> dict[str, Any] | None:
    if not text.strip():
        return {}
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _look(pod: Pod) -> str:
    return f"Next, on the first server: sudo k3s kubectl -n {pod.namespace} get pods"


# -- the vault ---------------------------------------------------------------------------------------------


class Vault:
    """A vault whose keys are in a store of secrets."""

    def __init__(self, send: Send, store: SecretStore, name: str) -> None:
        """`name` is what messages call it."""
        self._send, self._store, self.name = send, store, name
        self._root_token: SecretStr | None = None

    def seal(self) -> Seal:
        """Whether it can be used.

        Raises:
            VaultError: it does not say.
        """
        return self._seal_of(self._send(Request("GET", "sys/seal-status")))

    def initialise(self, shares: int, threshold: int, replace_keys: bool = False) -> bool:
        """Make its keys, and keep them in the store; returns whether it was done, or had been before.

        A vault that is initialised stays as it is. Keys of another one in the store are needed to read its backups:
        they are replaced with `replace_keys` only.

        Raises:
            VaultError: it can't be, or the store can't keep its keys; then it is not initialised, or the text says so.
        """
        seal = self.seal()
        if seal.initialised:
            return False
        if not self._store.provider.writable:
            raise VaultError(
                f"{self.name} would get keys that must be kept, and {self._store.provider.title} can't be written.\n"
                "Next: choose another secrets_provider: age or pass"
            )
        if not replace_keys and (self.unseal_keys() or self._store.get([(UNSEAL, "root-token")])):
            raise VaultError(
                f"{self.name} is not initialised, and the store has the keys of a vault: its volume is a new one.\n"
                "Next: restore the volume from a backup; or, only if nothing of the old vault is needed: "
                f"picluster vault init{self._store.option} --replace-keys"
            )
        # Kept first, so that a store that can't be written is known before there is something to lose.
        self._store.put({(UNSEAL, "shares"): SecretStr(str(shares)), (UNSEAL, "threshold"): SecretStr(str(threshold))})
        by_keys = seal.kind == "shamir"
        word = "secret" if by_keys else "recovery"
        body = {f"{word}_shares": shares, f"{word}_threshold": threshold}
        answer = self._expect(self._send(Request("POST", "sys/init", body)), "can't be initialised")
        keys = answer.body.get("keys_base64" if by_keys else "recovery_keys_base64") or []
        values = {(UNSEAL, "root-token"): SecretStr(str(answer.body.get("root_token") or ""))}
        prefix = "unseal-key" if by_keys else "recovery-key"
        values |= {(UNSEAL, f"{prefix}-{number}"): SecretStr(str(key)) for number, key in enumerate(keys, start=1)}
        try:
            if len(keys) != shares:
                raise SecretsError(f"it gave {len(keys)} keys in place of {shares}.")
            self._store.put(values)
        except SecretsError as error:
            reason = str(error)
        else:
            return True
        raise VaultError(
            f"{self.name} is initialised, and its keys could not be kept: {reason}\n"
            "They are lost, and so is the vault; it was empty.\n"
            "Next: mend that, remove the vault's volume and pod, and do this again"
        )

    def unseal(self) -> bool:
        """Unseal it with the keys of the store; returns whether it was sealed.

        Raises:
            VaultError: it is not initialised, keys are missing or of another vault, or it does not become active.
        """
        seal = self.seal()
        if not seal.initialised:
            raise VaultError(f"{self.name} is not initialised.\nNext: picluster vault init{self._store.option}")
        if not seal.sealed:
            return False
        if seal.kind != "shamir":
            raise VaultError(
                f"{self.name} is sealed, though it unseals itself ({seal.kind}): its log says why it could not."
            )
        keys = self.unseal_keys()
        if len(keys) < seal.threshold:
            raise VaultError(
                f"{self.name} needs {seal.threshold} unseal keys, and the store has {len(keys)}.\n"
                f"Next: picluster secrets set {UNSEAL} unseal-key-{len(keys) + 1}{self._store.option}"
            )
        if seal.progress:
            # Keys that someone began with may be of another vault, and one key counts once.
            self._expect(self._send(Request("POST", "sys/unseal", {"reset": True})), "can't be unsealed")
        for key in keys:
            answer = self._send(Request("POST", "sys/unseal", {"key": key.get_secret_value()}))
            if answer.status != 200:
                raise VaultError(
                    f"{self.name} does not accept the unseal keys of the store: {answer.errors or answer.status}.\n"
                    "It was initialised anew, or its volume is another one; the store has the keys of the old one."
                )
            if not self._seal_of(answer).sealed:
                self._wait_until_active()
                return True
        raise VaultError(f"{self.name} is still sealed after all {len(keys)} unseal keys of the store.")

    def unseal_keys(self) -> list[SecretStr]:
        """The unseal keys in the store, in their order.

        Raises:
            SecretsError: the store can't be read.
        """
        names = [(UNSEAL, f"unseal-key-{number}") for number in range(1, MOST_SHARES + 1)]
        kept = self._store.get(names)
        return [kept[name] for name in names if name in kept]

    def configure(self) -> list[str]:
        """Make what External Secrets needs, as far as it is missing or differs; returns what was done, for people.

        Raises:
            VaultError: it refuses.
        """
        done = []
        if f"{KV_MOUNT}/" not in self._read("sys/mounts").data:
            self._write(f"sys/mounts/{KV_MOUNT}", {"type": "kv", "options": {"version": "2"}})
            done.append(f"the KV engine (version 2) {KV_MOUNT}/")
        if f"{LOGIN_MOUNT}/" not in self._read("sys/auth").data:
            self._write(f"sys/auth/{LOGIN_MOUNT}", {"type": "kubernetes"})
            done.append(f"the login of Kubernetes auth/{LOGIN_MOUNT}/")
        wanted: dict[str, tuple[str, dict[str, Any]]] = {
            f"auth/{LOGIN_MOUNT}/config": (
                "how it asks Kubernetes",
                {"kubernetes_host": "https://kubernetes.default.svc"},
            ),
            f"sys/policies/acl/{ROLE}": (f"the policy {ROLE}", {"policy": POLICY}),
            f"auth/{LOGIN_MOUNT}/role/{ROLE}": (
                f"the role {ROLE}",
                {
                    "bound_service_account_names": [SERVICE_ACCOUNT],
                    "bound_service_account_namespaces": [SERVICE_NAMESPACE],
                    "token_policies": [ROLE],
                    "token_ttl": 3600,
                },
            ),
        }
        for path, (title, body) in wanted.items():
            found = self._read(path).data
            if any(_listed(found.get(key)) != _listed(value) for key, value in body.items()):
                self._write(path, body)
                done.append(title)
        return done

    def audit(self) -> bool:
        """Turn its audit log on, if it has none; returns whether it was done.

        OpenBao declares its audit device in its configuration, and lets nobody do it here.

        Raises:
            VaultError: it refuses.
        """
        if self._read("sys/audit").data:
            return False
        answer = self._send(Request("POST", f"sys/audit/{AUDIT_PATH}", AUDIT_DEVICE, self._token()))
        if answer.status == 400 and "declarative" in answer.errors:
            raise VaultError(
                f"{self.name} has no audit log: it runs with an old configuration, which it reads at its start only.\n"
                "Next: deploy the platform, delete the pod, and do this again"
            )
        self._expect(answer, "does not turn its audit log on")
        return True

    def sync(self, values: Mapping[str, Mapping[str, SecretStr]]) -> list[str]:
        """Put Secrets there, each at ``platform/<name>``; returns the names of those that were new or differed.

        Raises:
            VaultError: it refuses, or someone else changed one meanwhile.
        """
        written = []
        for name, keys in sorted(values.items()):
            data = {key: value.get_secret_value() for key, value in keys.items()}
            found = self._read(f"{KV_MOUNT}/data/{name}").data
            if found.get("data") == data:
                continue
            metadata = found.get("metadata") or {}
            body = {"options": {"cas": metadata.get("version", 0)}, "data": data}
            self._write(f"{KV_MOUNT}/data/{name}", body)
            written.append(name)
        return written

    def _read(self, path: str) -> Response:
        """What is there; nothing of it is an answer too."""
        answer = self._send(Request("GET", path, token=self._token()))
        return answer if answer.status == 404 else self._expect(answer, f"does not show {path}")

    def _write(self, path: str, body: Mapping[str, Any]) -> None:
        deadline = time.monotonic() + _ACTIVE_TIMEOUT_S
        while True:
            answer = self._send(Request("POST", path, body, self._token()))
            # A new KV engine of version 2 is being made ready for a moment.
            if answer.status != 400 or "Upgrading" not in answer.errors or time.monotonic() >= deadline:
                self._expect(answer, f"does not accept {path}")
                return
            time.sleep(_POLL_S)

    def _token(self) -> SecretStr:
        name = (UNSEAL, "root-token")
        self._root_token = self._root_token or self._store.get([name]).get(name)
        if self._root_token is None:
            raise VaultError(
                f"The root token of {self.name} is not in the store.\n"
                f"Next: picluster secrets set {UNSEAL} root-token{self._store.option}"
            )
        return self._root_token

    def _wait_until_active(self) -> None:
        deadline = time.monotonic() + _ACTIVE_TIMEOUT_S
        while (status := self._send(Request("GET", "sys/health")).status) != 200:
            if time.monotonic() >= deadline:
                raise VaultError(
                    f"{self.name} is unsealed, and not active after {_ACTIVE_TIMEOUT_S} s (HTTP status {status}): "
                    "its log says why."
                )
            time.sleep(_POLL_S)

    def _seal_of(self, answer: Response) -> Seal:
        seal = seal_of(self._expect(answer, "does not say whether it is sealed"))
        if seal is None:
            raise VaultError(f"{self.name}: what answers is no vault.")
        return seal

    def _expect(self, answer: Response, what: str) -> Response:
        if answer.status in (200, 204):
            return answer
        if answer.status == 503:
            raise VaultError(f"{self.name} is sealed.\nNext: picluster vault unseal{self._store.option}")
        cause = answer.errors or f"HTTP status {answer.status}"
        if answer.status == 403:
            cause = f"{cause} (is the root token in the store, {UNSEAL}/root-token, still its own?)"
        raise VaultError(f"{self.name} {what}: {cause}.")


def _listed(value: Any) -> Any:
    """Lists of one word are sometimes shown as the word."""
    return [value] if isinstance(value, str) else value
