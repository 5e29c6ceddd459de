"""A rolling upgrade: nodes of two versions serve side by side, and carry one another's commands.

The next version is this one with what a next version may bring: it says more of itself, and tells other nodes more and
of new kinds.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from hybrid.auth.development import DevelopmentIssuer
from tests.faults.stage import stage
from tests.support.nodes import Node, changed_tree
from tests.support.redis_servers import redis_server

CHANGES = (
    ("__init__.py", '__version__ = "0.1.0"', '__version__ = "9.0.0"'),
    ("engine/nodes.py", "    is_draining: bool = False\n", '    is_draining: bool = False\n    zone: str = "north"\n'),
    ("protocol/control.py", "    last_seq: int = 0\n", "    last_seq: int = 0\n    trace: str = 'abc'\n"),
    ("protocol/control.py", '    reply: bytes = b""\n', '    reply: bytes = b""\n    took_ms: float = 1.5\n'),
    (
        "protocol/control.py",
        "ControlMessage: TypeAlias = Ask | Answer | Moved",
        'class Hello(msgspec.Struct, frozen=True, tag="hello"):\n    text: str = "hello"\n\n\n'
        "ControlMessage: TypeAlias = Ask | Answer | Moved | Hello",
    ),
    (
        "engine/router.py",
        "        return await self._store.tell(node, self._codec.seal(node, message))",
        "        from hybrid.protocol.control import Hello\n"
        "        await self._store.tell(node, self._codec.seal(node, Hello()))\n"
        "        return await self._store.tell(node, self._codec.seal(node, message))",
    ),
)


def upgrade(node: Node, tree: Path) -> None:
    """Let it run another version from its next start on."""
    assert node.process.environment is not None
    node.process.environment = {**node.process.environment, "PYTHONPATH": str(tree)}


@pytest.mark.faults
async def test_a_rolling_upgrade(issuer: DevelopmentIssuer, tmp_path: Path) -> None:
    tree = changed_tree(tmp_path / "next", CHANGES)
    async with redis_server() as redis, stage("rolling upgrade", broker=redis.url, issuer=issuer) as here:
        for node in here.nodes:
            upgrade(node, tree)
            assert await node.restart() == 0
            await here.nodes.balancer.until_ready(len(here.nodes))
            here.fault_ended()
            await here.healed()  # both versions serve now, until the last one was upgraded
        listed = b"".join(await redis.command("HVALS", "hybrid:c:{nodes}"))
        assert listed.count(b'"version":"9.0.0"') == len(here.nodes)
        verdict = await here.judged()
        assert verdict.resets == 0
