"""Puts into Elasticsearch or OpenSearch how long logs are kept, and into its dashboards what people look for.

It changes what differs and nothing else, so that it can run again and again. Only the standard library is used.
"""

import base64
import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

#: Of policy and index template.
NAME = "platform-logs"
#: Names of the indices with logs.
PATTERN = os.environ.get("PATTERN", "logs-*")


class Refused(Exception):
    """An answer that is neither what was asked for nor "not there"."""


class Server:
    """An HTTP API with basic authentication."""

    def __init__(self, url, headers, context):
        self.url = url.rstrip("/")
        self.headers = headers
        self.context = context

    def ask(self, method, path, body=None, content_type="application/json"):
        """The answer's JSON, a list of its lines' JSON if it has several, or None if there is nothing of that name."""
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        headers = {**self.headers, **({"Content-Type": content_type} if body is not None else {})}
        request = urllib.request.Request(self.url + path, body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60, context=self.context) as answer:
                text = answer.read().decode()
        except urllib.error.HTTPError as error:
            said = error.read().decode(errors="replace")[:500]
            if error.code == 404:
                return None
            raise Refused(f"{method} {self.url}{path}: {error.code} {said}") from None
        if not text.strip():
            return {}
        try:
            return json.loads(text)
        except ValueError:
            return [json.loads(line) for line in text.splitlines() if line.strip()]


def contains(there, wanted):
    """Whether `there` has all of `wanted`: servers add defaults of their own to what they are given."""
    if isinstance(wanted, dict):
        return isinstance(there, dict) and all(key in there and contains(there[key], wanted[key]) for key in wanted)
    if isinstance(wanted, list):
        return isinstance(there, list) and len(there) == len(wanted) and all(map(contains, there, wanted))
    return str(there) == str(wanted)


def wait(what, ready, seconds):
    """Wait until `ready` is true; what it raises on the way is the reason given at the end."""
    end, reason = time.monotonic() + seconds, "it is not ready"
    while True:
        try:
            if ready():
                return
        except (OSError, Refused, ValueError) as error:
            reason = str(error)
        if time.monotonic() > end:
            raise Refused(f"{what}: still not there after {seconds} seconds: {reason}")
        print(f"waiting for {what}", flush=True)
        time.sleep(5 if seconds > 60 else 0.2)


def lifecycle(search, policy):
    """Elasticsearch: the policy, and indices that were made before it."""
    path = f"/_ilm/policy/{NAME}"
    there = search.ask("GET", path)
    if there is None or not contains(there[NAME], policy):
        search.ask("PUT", path, policy)
        print("lifecycle policy: written")
    for index, found in (search.ask("GET", f"/{PATTERN}/_settings?expand_wildcards=all") or {}).items():
        if not found["settings"]["index"].get("lifecycle", {}).get("name"):
            search.ask("PUT", f"/{index}/_settings", {"index.lifecycle.name": NAME})
            print(f"lifecycle policy: given to {index}")


def state_management(search, policy):
    """OpenSearch: the policy, and indices that were made before it or have an older one."""
    path = f"/_plugins/_ism/policies/{NAME}"
    there = search.ask("GET", path)
    if there is None:
        search.ask("PUT", path, policy)
        print("state management policy: written")
    elif not contains(there["policy"], policy["policy"]):
        version = f"?if_seq_no={there['_seq_no']}&if_primary_term={there['_primary_term']}"
        search.ask("PUT", path + version, policy)
        search.ask("POST", f"/_plugins/_ism/change_policy/{PATTERN}", {"policy_id": NAME})
        print("state management policy: changed")
    for index, found in (search.ask("GET", f"/_plugins/_ism/explain/{PATTERN}") or {}).items():
        if isinstance(found, dict) and not found.get("index.plugins.index_state_management.policy_id"):
            search.ask("POST", f"/_plugins/_ism/add/{index}", {"policy_id": NAME})
            print(f"state management policy: given to {index}")


def index_template(search, template):
    """What indices of logs look like."""
    path = f"/_index_template/{NAME}"
    there = search.ask("GET", path)
    if there is None or not contains(there["index_templates"][0]["index_template"], template):
        search.ask("PUT", path, template)
        print("index template: written")


def saved_objects(dashboards, lines):
    """Index pattern and searches; imported whole when one of them is not as it should be."""
    wanted = [json.loads(line) for line in lines.splitlines() if line.strip()]
    names = [{"type": one["type"], "id": one["id"]} for one in wanted]
    try:
        there = dashboards.ask("POST", "/api/saved_objects/_export", {"objects": names, "excludeExportDetails": True})
    except Refused:  # 400: some are not there
        there = []
    there = there if isinstance(there, list) else [there]
    found = {(one.get("type"), one.get("id")): one.get("attributes") for one in there}
    if all(contains(found.get((one["type"], one["id"])), one["attributes"]) for one in wanted):
        return
    boundary = "piclusterops-saved-objects"
    body = (
        f"--{boundary}\r\n"
        'Content-Disposition: form-data; name="file"; filename="objects.ndjson"\r\n'
        "Content-Type: application/ndjson\r\n\r\n"
        f"{lines}\r\n--{boundary}--\r\n"
    ).encode()
    kind = f"multipart/form-data; boundary={boundary}"
    answer = dashboards.ask("POST", "/api/saved_objects/_import?overwrite=true", body, kind)
    if not answer or not answer.get("success"):
        raise Refused(f"saved objects: {json.dumps(answer)[:500]}")
    print(f"saved objects: {answer['successCount']} written")


def read(folder, name):
    """The text of a file."""
    return (Path(os.environ[folder]) / name).read_text(encoding="utf-8").strip()


def main():
    """Load everything, and say what was changed."""
    kind, seconds = os.environ["KIND"], int(os.environ["WAIT_SECONDS"])
    context = ssl.create_default_context(cafile=os.environ.get("CA_FILE") or None)
    login = f"{read('CREDENTIALS', 'username')}:{read('CREDENTIALS', 'password')}".encode()
    headers = {"Authorization": "Basic " + base64.b64encode(login).decode()}
    search = Server(os.environ["SEARCH_URL"], headers, context)
    mark = {"kbn-xsrf": "true"} if kind == "elasticsearch" else {"osd-xsrf": "true"}
    dashboards = Server(os.environ["DASHBOARDS_URL"], {**headers, **mark}, context)
    wait("search", lambda: search.ask("GET", "/_cluster/health")["status"] in ("yellow", "green"), seconds)
    if kind == "elasticsearch":
        lifecycle(search, json.loads(read("DATA", "lifecycle.json")))
    else:
        state_management(search, json.loads(read("DATA", "lifecycle.json")))
    index_template(search, json.loads(read("DATA", "template.json")))
    wait("the dashboards", lambda: dashboards.ask("GET", "/api/status") is not None, seconds)
    saved_objects(dashboards, read("DATA", "objects.ndjson"))
    print("everything is as it should be")


if __name__ == "__main__":
    try:
        main()
    except Refused as error:
        sys.exit(str(error))
