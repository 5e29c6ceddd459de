"""launchdarkly-eventsource for Python: it comes back by itself, if told to, with the id of the last event."""

import json
import os

from ld_eventsource import SSEClient
from ld_eventsource.config import ConnectStrategy, ErrorStrategy

client = SSEClient(
    ConnectStrategy.http(os.environ["URL"], headers={"Authorization": f"Bearer {os.environ['TOKEN']}"}),
    initial_retry_delay=0.05,
    error_strategy=ErrorStrategy.always_continue(),
)
for event in client.events:
    print(json.dumps([event.event, event.data, event.last_event_id]), flush=True)
