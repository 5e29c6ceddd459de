"""OpenTelemetry spans, where `tracing = true`. Nothing of it is loaded otherwise, and nothing else knows of it: what is
traced is a subclass or a wrapper of the part that is not.

Spans of requests and handshakes, attaches, publishes and what the broker is asked; see docs/operating.md. What becomes
of them is the business of whatever SDK the process was started with.
"""

from hybrid.tracing.engine import TracedEngine
from hybrid.tracing.spans import Spans
from hybrid.tracing.transports import TracedTransports

__all__ = ["Spans", "TracedEngine", "TracedTransports"]
