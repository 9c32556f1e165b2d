"""The gateway: a consumer that speaks HTTP."""
