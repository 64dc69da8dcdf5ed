"""The router's bench: what it costs to have it in the path, beside its peers, on one machine."""
