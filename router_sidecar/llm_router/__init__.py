"""The router: one localhost address for every model an orchestrator calls.

Reading order is the flow of one request: `mount` -> `table` -> `fronts` -> `answer` -> `targets` ->
`transport`, and back. `app` is the ASGI callable around it, `management` the port for probes and
metrics.
"""
