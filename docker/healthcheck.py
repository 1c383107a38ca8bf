"""The image's HEALTHCHECK: exit code 0 when HEALTHCHECK_URL (default: the gateway's /livez) answers 200.

A service of the fleet may want the token even here, so it is sent where the environment has one.
"""

import os
import sys
import urllib.request

url = os.environ.get("HEALTHCHECK_URL", "http://127.0.0.1:8000/livez")
token = os.environ.get("TENTACULO_TOKEN", "")
request = urllib.request.Request(url, headers={"X-VX11-Token": token} if token else {})  # noqa: S310  our own address
try:
    with urllib.request.urlopen(request, timeout=4) as response:  # noqa: S310
        sys.exit(0 if response.status == 200 else 1)
except OSError as error:
    sys.exit(str(error))
