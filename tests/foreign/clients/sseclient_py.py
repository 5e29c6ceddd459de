"""sseclient-py over httpx2: it parses one stream; coming back is the program's."""

import json
import os
import time

import httpx2
import sseclient

url, headers = os.environ["URL"], {"Authorization": f"Bearer {os.environ['TOKEN']}", "Accept": "text/event-stream"}
while True:
    try:
        with httpx2.stream("GET", url, headers=headers, timeout=30, trust_env=False) as response:
            response.raise_for_status()
            for event in sseclient.SSEClient(response.iter_bytes()).events():
                headers["Last-Event-ID"] = event.id
                print(json.dumps([event.event, event.data, event.id]), flush=True)
    except httpx2.HTTPError:
        pass
    time.sleep(0.05)
