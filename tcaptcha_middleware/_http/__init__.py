"""A small HTTP/1.1 client for one origin. It must not know Tencent, tickets or keys."""
