# docs/examples/micropython/hybrid_micro.py under either Python.
import json
import os
import sys

sys.path.insert(0, os.getenv("MICRO"))
import hybrid_micro

hybrid_micro.RETRY_MAX_S = 0.05
url = os.getenv("URL").partition("/v1/")[0]
client = hybrid_micro.Hybrid(url, lambda: os.getenv("TOKEN"), event_max=2048)
for event in client.events("outside:all", last_id="0"):
    print(json.dumps([event.type, json.dumps(event.data), event.id]))
    getattr(sys.stdout, "flush", lambda: None)()
