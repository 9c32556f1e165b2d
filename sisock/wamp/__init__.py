"""WAMP: what goes over the wire, and the sessions and connections that carry it."""
