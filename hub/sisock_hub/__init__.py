"""The router of a site, and the hub that knows which nodes are there."""
