"""The broker for many nodes, on Redis 7 or Valkey: alone, with Sentinels, or a Cluster. The only home of redis-py.

address     the URL of the settings, understood
keys        what everything is called
scripts/    one Lua file for each atomic step
line        one connection that many callers share
servers     which server has a key, and how to reach it
topics      what is listened to, kept so over reconnects
broker, presence, nodes    what `broker/base.py` promises
tickets, proofs, revocations    what `auth/tickets.py`, `auth/dpop.py` and `auth/revocation.py` promise
"""
