"""The record: LLMBackends as rows of Postgres, a projection that is repaired when it drifts.

Only this package and `llm_operator.migrate` speak to Postgres. A lost database is a reason in a
status here, never an exception, and it delays nothing else. Data flows `resource` -> `rows` ->
`sync` -> Postgres; `record` holds the connections and says what came of it. Usage records of
routers come in by `usage`; `upkeep` sees to what has to be done by the clock.
"""

from llm_operator.record.dsn import InvalidDatabaseURL
from llm_operator.record.record import Record
from llm_operator.record.upkeep import Keep

__all__ = ["InvalidDatabaseURL", "Keep", "Record"]
