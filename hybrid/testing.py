"""What tests of an application with channels need: see `hybrid.Hybrid.test_client`."""

from hybrid.embed.testing import TestClient, TestClock

__all__ = ["TestClient", "TestClock"]
