"""Which of several replicas works: the one that holds a Lease, one at a time.

`lease` decides, `election` asks the API server, `gate` keeps a replica that no longer holds it from
writing. What may still be on its way then is refused by what it would write to: each term has an
epoch, greater than all before it, that goes into every transaction and every ConfigMap.
"""

from llm_operator.leader.election import Election, Pace
from llm_operator.leader.gate import Gated

__all__ = ["Election", "Gated", "Pace"]
