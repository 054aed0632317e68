"""`helm test`: a note that is written can be read."""

import json
import os
import urllib.request

url = os.environ["URL"] + "/notes"
body = json.dumps({"text": "helm test"}).encode()
request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})
with urllib.request.urlopen(request, timeout=30) as answer:
    written = json.load(answer)
with urllib.request.urlopen(url, timeout=30) as answer:
    notes = json.load(answer)
if written not in notes:
    raise SystemExit(f"{written} is not among {notes}")
print(f"note {written['id']} is there")
