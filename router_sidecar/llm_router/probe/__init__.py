"""How the router looks at its hosts by itself, apart from requests.

    table ─> plan ─> prober ─> look ─> standings        every few seconds, at no token's cost
    a failed request ─> confirm ─> standings            one request of one token: whose fault?

Requests never wait for any of this; `select` reads what it leaves in the standings.
"""

from llm_router.probe.confirm import Confirmer
from llm_router.probe.prober import Prober

__all__ = ["Confirmer", "Prober"]
