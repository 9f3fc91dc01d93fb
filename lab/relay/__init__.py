"""Stands for the relay and its agents: their conversation, spoken with the very secrets a deployment installed.

One process runs beside each of the lab's clusters, and is the relay, an agent or both, as is deployed there. It reads
its cluster as its administrator, so that nothing it does looks like a deployment's. What the vendor's programs say
to each other is unknown; here it is a certificate asked for by token, and a push and a pull stream that stay open.
"""
