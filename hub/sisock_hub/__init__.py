"""The router of a site, the hub with its list of nodes, and the gateway."""
