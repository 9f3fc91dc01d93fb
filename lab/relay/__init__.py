"""Stands for the relay and its agents: their conversation, spoken with the very secrets a deployment installed.

One server runs beside the management cluster and one agent beside each worker, as processes of the lab. Both read
their cluster as its administrator, so that nothing they do looks like a deployment's. What the vendor's programs say
to each other is unknown; here it is a certificate asked for by token, and a push and a pull stream that stay open.
"""
