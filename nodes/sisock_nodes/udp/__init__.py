"""Binary datagrams from rigs and sensors."""
