"""httpx-sse: it parses one stream; coming back is the program's."""

import json
import os
import time

import httpx
from httpx_sse import connect_sse

url, headers = os.environ["URL"], {"Authorization": f"Bearer {os.environ['TOKEN']}"}
with httpx.Client(timeout=30, trust_env=False) as client:
    while True:
        try:
            with connect_sse(client, "GET", url, headers=headers) as source:
                source.response.raise_for_status()
                for event in source.iter_sse():
                    headers["Last-Event-ID"] = event.id
                    if event.data:  # it gives blocks that hold nothing but an id, too
                        print(json.dumps([event.event, event.data, event.id]), flush=True)
        except httpx.HTTPError:
            pass
        time.sleep(0.05)
