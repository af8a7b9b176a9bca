"""The configuration of a node's container engines: what has to be written for them to ask crcache first."""
