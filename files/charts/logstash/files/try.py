"""`helm test`: Logstash takes an event, and its pipeline hands it on."""

import json
import os
import time
import urllib.request

url, api = os.environ["URL"], os.environ["API_URL"] + "/_node/stats/pipelines/main"


def handed_on() -> int:
    with urllib.request.urlopen(api, timeout=10) as answer:
        count: int = json.load(answer)["pipelines"]["main"]["events"]["out"]
    return count


before = handed_on()
body = json.dumps([{"message": "helm test", "kubernetes": {"namespace_name": "logging"}}]).encode()
request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})
with urllib.request.urlopen(request, timeout=10) as answer:
    print("taken:", answer.status)
for _ in range(int(os.environ.get("TRIES", "30"))):
    if handed_on() > before:
        print("handed on")
        break
    time.sleep(float(os.environ.get("PAUSE_S", "2")))
else:
    raise SystemExit("the event stays in the queue: is the store there, and does it take the user's password?")
