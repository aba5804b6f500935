"""A small HTTP/1.1 client for one origin: one POST, one short answer, sync and async.

It must not know Tencent, tickets or keys, and raises the errors of the network as they are.
"""
