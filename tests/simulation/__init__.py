"""hybrid in one process and made-up time: nodes, their store, clients and the wires between them, all from one seed."""
