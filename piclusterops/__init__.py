"""PiClusterOps: pyinfra facts, operations and deploys for Raspberry Pi K3s clusters.

The source folders (``facts``, ``operations``, ``deploys``, ``files``, ``lab``) sit at the top of the
repository; installed, they are subpackages. In a checkout the search path of this package is extended,
so that ``piclusterops.facts`` means the same thing in both.
"""

from pathlib import Path as _Path

__version__ = "0.1.0"

_checkout = _Path(__file__).resolve().parent.parent
if (_checkout / "setup.cfg").is_file() and (_checkout / "facts").is_dir():
    __path__.append(str(_checkout))
