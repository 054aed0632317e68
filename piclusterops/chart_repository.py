"""What chart repositories and registries say of a chart's archive, asked from this machine and without Helm.

A repository has ``index.yaml`` (https://helm.sh/docs/topics/chart_repository); in a registry a chart is a layer of an
image, and the layer's digest is the archive's (https://helm.sh/docs/topics/registries). What is said is compared with
the archive itself.
"""

from __future__ import annotations

import json
import re
from hashlib import sha256
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode, urljoin
from urllib.request import Request, urlopen

import yaml

from piclusterops import artefacts
from piclusterops.artefacts import ArtefactError, WrongDigest
from piclusterops.helm_charts import LARGEST, Chart

_SETTINGS = "the chart's repository, or set chart_mirror"
_TIMEOUT_S = 30.0
#: Indexes of repositories with many charts have some 10 MB.
_LARGEST_INDEX = 128 << 20
_LARGEST_ANSWER = 4 << 20
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_LAYER = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
_DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{64})")
#: Ten times as fast as the loader in Python, which takes minutes for a large index.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Unpinnable(ArtefactError):
    """The digest of a chart can't be had without Helm, or without a login."""


def digest_in_repository(chart: Chart) -> tuple[str, str]:
    """The SHA-256 of a chart's archive, and what says so.

    Raises:
        Unpinnable: it can't be had this way.
        ArtefactError: the repository does not answer, does not have the chart, or serves another archive than it says.
    """
    assert chart.repository
    if chart.repository.startswith("oci://"):
        return _in_registry(chart)
    if chart.repository.startswith(("https://", "http://")):
        return _in_index(chart)
    raise Unpinnable(f"only Helm can ask {chart.repository}")


def _in_index(chart: Chart) -> tuple[str, str]:
    repository = f"{str(chart.repository).rstrip('/')}/"
    index = urljoin(repository, "index.yaml")
    try:
        entries = yaml.load(artefacts.read_file(index, _SETTINGS, _LARGEST_INDEX), _LOADER)["entries"]
        versions = entries.get(chart.name) or []
        found = next((entry for entry in versions if _is_version(entry["version"], chart.version)), None)
        if found is None:
            raise ArtefactError(f"{index} has no {chart.name} {chart.version}. Check {_SETTINGS}")
        address, said = urljoin(repository, str(found["urls"][0])), str(found.get("digest") or "")
    except (yaml.YAMLError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise ArtefactError(f"{index} is no index of a chart repository: {error!r}. Check {_SETTINGS}") from error
    if address.startswith("oci://"):
        raise Unpinnable(f"its repository sends on to {address}")
    content = artefacts.read_file(address, _SETTINGS, LARGEST)
    # Old indexes state no digest; then it is what the archive has now.
    return _verified(chart, content, said, index if said else address, address), index if said else address


def _is_version(found: Any, wanted: str) -> bool:
    """Whether versions are the same: Helm does not mind the `v` before one."""
    return str(found).removeprefix("v") == wanted.removeprefix("v")


def _verified(chart: Chart, content: bytes, said: str, source: str, address: str) -> str:
    """The SHA-256 of an archive, if it is what its source and the chart itself say."""
    digest = sha256(content).hexdigest()
    stated = _DIGEST.fullmatch(said)
    if said and (stated is None or stated[1] != digest):
        raise WrongDigest(f"{address} has SHA-256 {digest}, but {source} says {said}. Next: {chart.remedy}")
    if chart.digest not in (None, digest):
        raise WrongDigest(f"{address} has SHA-256 {digest}, but {chart.expectation}. Next: {chart.remedy}")
    if not content.startswith(b"\x1f\x8b"):
        raise ArtefactError(f"{address} is no archive of a chart. Check {_SETTINGS}")
    return digest


# -- registries ----------------------------------------------------------------------------------------------


def _in_registry(chart: Chart) -> tuple[str, str]:
    repository = f"{str(chart.repository).removeprefix('oci://').rstrip('/')}/{chart.name}"
    registry, _, path = repository.partition("/")
    tag = chart.version.replace("+", "_")  # as Helm writes it, because a tag can't have a plus
    source, base = f"oci://{repository}:{tag}", f"https://{registry}/v2/{path}"
    asked = _Registry(source)
    try:
        layers = json.loads(asked.get(f"{base}/manifests/{tag}", _LARGEST_ANSWER, _MANIFEST))["layers"]
        said = next(str(layer["digest"]) for layer in layers if layer["mediaType"] == _LAYER)
    except (ValueError, KeyError, TypeError, StopIteration) as error:
        raise ArtefactError(f"{source} is no chart: {error!r}. Check {_SETTINGS}") from error
    return _verified(chart, asked.get(f"{base}/blobs/{said}", LARGEST), said, source, source), source


class _Registry:
    """A registry, asked as someone without a name."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._token = ""

    def get(self, url: str, largest: int, accept: str = "*/*") -> bytes:
        """The answer to a question, with a token if the registry wants one.

        Raises:
            Unpinnable: only those with a login get an answer.
            ArtefactError: there is none.
        """
        try:
            return self._ask(url, largest, accept)
        except HTTPError as error:
            if error.code != 401 or self._token:
                raise self._no_answer(error) from error
            challenge = error.headers.get("WWW-Authenticate", "")
        self._token = self._token_for(challenge)
        try:
            return self._ask(url, largest, accept)
        except HTTPError as error:
            raise self._no_answer(error) from error

    def _ask(self, url: str, largest: int, accept: str = "*/*") -> bytes:
        request = Request(url, headers={"User-Agent": "piclusterops", "Accept": accept})
        if self._token:
            # Not to where the registry sends us for the layer itself: a store that does not know it.
            request.add_unredirected_header("Authorization", f"Bearer {self._token}")
        try:
            with urlopen(request, timeout=_TIMEOUT_S) as answer:
                content: bytes = answer.read(largest)
                return content
        except HTTPError:
            raise
        except OSError as error:
            reason = getattr(error, "reason", None) or error
            raise ArtefactError(f"cannot read {self._source}: {reason}. Check {_SETTINGS}") from error

    def _token_for(self, challenge: str) -> str:
        """A token for everybody, from where the registry says (https://distribution.github.io/distribution/spec/auth)."""
        scheme, _, rest = challenge.partition(" ")
        words = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        realm = words.pop("realm", "")
        if scheme.lower() != "bearer" or not realm.startswith("https://"):
            raise Unpinnable(f"{self._source} wants a login")
        try:
            answer = json.loads(self._ask(f"{realm}?{urlencode(words)}", _LARGEST_ANSWER))
            return str(answer.get("token") or answer["access_token"])
        except HTTPError as error:
            raise Unpinnable(f"{self._source} wants a login") from error
        except (ValueError, KeyError, AttributeError) as error:
            raise ArtefactError(f"{realm} gives no token: {error!r}. Check {_SETTINGS}") from error

    def _no_answer(self, error: HTTPError) -> ArtefactError:
        if error.code in (401, 403):
            return Unpinnable(f"{self._source} wants a login")
        return ArtefactError(f"cannot read {self._source}: {error.code} {error.reason}. Check {_SETTINGS}")
