"""`helm test`: JupyterLab lets in who has the token, and nobody else."""

import os
import ssl
import urllib.error
import urllib.request
from pathlib import Path

url = os.environ["URL"] + "/api/status"
context = ssl.create_default_context(cafile=os.environ["CA_FILE"]) if url.startswith("https:") else None
token = Path(os.environ["TOKEN_FILE"]).read_text().strip()
request = urllib.request.Request(url, headers={"Authorization": f"token {token}"})
with urllib.request.urlopen(request, timeout=30, context=context) as answer:
    print(answer.read().decode())
try:
    urllib.request.urlopen(url, timeout=30, context=context).close()
except urllib.error.HTTPError as error:
    if error.code not in (401, 403):
        raise
else:
    raise SystemExit("it lets everybody in")
