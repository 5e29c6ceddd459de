"""Finds out what the network between here and a server does to each transport, and says it in words.

Each is tried as the clients use it: the attach with a nonce that has to come back, an answer to a command, heartbeats
that are asked for one by one, a poll that waits, a connection on which nothing is said. Nothing is decided by a proxy's
name; what it calls itself is told all the same, for whoever has to talk to its keeper. Without a token the server
refuses, and that it is heard refusing shows that it can be reached.
"""

from hybrid.client.doctor.examination import Examination, examine
from hybrid.client.doctor.finding import TRANSPORTS, Finding, Pace

__all__ = ["TRANSPORTS", "Examination", "Finding", "Pace", "examine"]
