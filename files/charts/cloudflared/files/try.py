"""`helm test`: the tunnel has a connection to Cloudflare."""

import os
import urllib.request

with urllib.request.urlopen(os.environ["READY_URL"], timeout=30) as answer:
    print(answer.read().decode())
