"""Recording what other nodes measure."""
