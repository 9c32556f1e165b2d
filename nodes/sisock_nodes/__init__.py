"""The types of data nodes that come with sisock, one folder each."""
