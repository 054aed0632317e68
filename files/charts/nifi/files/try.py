"""`helm test`: NiFi has the certificate it should, lets its user in and shows its flow to them."""

import os
import ssl
import urllib.parse
import urllib.request
from pathlib import Path

url = os.environ["NIFI_URL"]
context = ssl.create_default_context(cafile=os.environ["CA_FILE"])
headers, path = {}, "/nifi-api/authentication/configuration"
if os.environ["NIFI_AUTH_MODE"] == "single-user":
    form = {name: Path(os.environ["AUTH_DIR"], name).read_text().strip() for name in ("username", "password")}
    request = urllib.request.Request(url + "/nifi-api/access/token", data=urllib.parse.urlencode(form).encode())
    with urllib.request.urlopen(request, timeout=30, context=context) as answer:
        headers, path = {"Authorization": "Bearer " + answer.read().decode()}, "/nifi-api/flow/about"
with urllib.request.urlopen(urllib.request.Request(url + path, headers=headers), timeout=30, context=context) as answer:
    print(answer.read().decode())
