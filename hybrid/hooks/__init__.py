"""Webhooks: an application's backend, in whatever language, is asked and told over HTTP.

*Asked*: may this token come in, may it read or write this channel, what does this call give? The answer decides, and no
answer denies. *Told*: who came and went, which channels are listened to. At least once, in order.

`signature`, `breaker`, `verdicts`, `queue` and `messages` do no I/O; `post` is the only file that does.
"""
