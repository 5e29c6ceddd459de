"""`hybrid top`: what a deployment does now, read by its own `/metrics` and server API.

`reading` and `snapshot` are what was told at one moment, `figures` what two moments say, `screen` and `report` how that
is shown, `keys` what a key does to the view: all pure. `ask` is the network, `terminal` the terminal.
"""
