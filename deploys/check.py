"""Look for what will go wrong, and change nothing: ``pyinfra -y inventories/prod.py deploys/check.py``.

The same as ``picluster check``, over pyinfra's own connections (so that `--limit` and `--data` count);
`-y` because there is nothing to confirm.
"""

from pyinfra import host

from piclusterops.deploys.report import report_findings

report_findings(host.state)
