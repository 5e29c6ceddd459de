"""One sensor: signs in as a device (RFC 8628), then reports what this machine is doing, through whatever network.

python sensor.py kitchen http://127.0.0.1:8000
"""

import asyncio
import sys
from typing import Any

import httpx2
import psutil

from hybrid import Client
from hybrid.client.device import GRANT

CLIENT_ID = "cli"  # the issuer must know it, and let it use the device flow
INTERVAL_S = 1.0


async def sign_in(http: httpx2.AsyncClient, issuer: dict[str, Any]) -> dict[str, Any]:
    """Show a code, and wait until somebody has consented elsewhere. The answer holds both tokens."""
    told = (await http.post(issuer["device_authorization_endpoint"], data={"client_id": CLIENT_ID})).json()
    print(f"Open {told['verification_uri_complete']}", flush=True)
    print(f"and check that it shows {told['user_code']}", flush=True)
    form = {"grant_type": GRANT, "client_id": CLIENT_ID, "device_code": told["device_code"]}
    interval_s = told.get("interval", 5)
    while True:
        await asyncio.sleep(interval_s)
        answer = (await http.post(issuer["token_endpoint"], data=form)).json()
        if "access_token" in answer:
            return dict(answer)
        if answer["error"] == "slow_down":
            interval_s += 5
        elif answer["error"] != "authorization_pending":
            sys.exit(f"Nobody let this sensor in: {answer['error']}")


async def main(sensor: str, url: str) -> None:
    async with httpx2.AsyncClient() as http:
        server = (await http.get(f"{url}/.well-known/oauth-protected-resource")).json()
        name = server["authorization_servers"][0]
        issuer = (await http.get(f"{name}/.well-known/oauth-authorization-server")).json()
        tokens = await sign_in(http, issuer)
        is_fresh = True

        async def token() -> str:
            """Asked when one is needed: the first one as it came, then a new one by the refresh token."""
            nonlocal tokens, is_fresh
            if not is_fresh:
                form = {"grant_type": "refresh_token", "client_id": CLIENT_ID, "refresh_token": tokens["refresh_token"]}
                answer = (await http.post(issuer["token_endpoint"], data=form)).raise_for_status()
                tokens = answer.json()
            is_fresh = False
            return str(tokens["access_token"])

        async with Client(url, token) as client:
            await client.connected()
            print(f"{sensor} reports over {client.transport}", flush=True)
            while True:
                reading = {"cpu": psutil.cpu_percent(), "memory": psutil.virtual_memory().percent}
                await client.call("report", {"sensor": sensor, **reading})
                await asyncio.sleep(INTERVAL_S)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python sensor.py NAME URL")
    try:
        asyncio.run(main(sys.argv[1], sys.argv[2].rstrip("/")))
    except KeyboardInterrupt:
        sys.exit(130)
