"""The router: one localhost address for every model an orchestrator calls.

Reading order is the flow of one request: `mount` -> `table` -> `fronts` -> `ask` -> `targets` ->
`transport`, and back. `app` is what the data port's `server` calls, `management` the port for
probes and metrics.
"""
