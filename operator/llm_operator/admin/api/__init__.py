"""The admin API: HTTP on one side, the services of `llm_operator.admin` on the other.

    request -> edge      its id, its log line, what no route may leave open
            -> callers   whose token it is
            -> bodies    JSON, and of which form
            -> backends, traffic, probes -> Backends, Traffic, Fleet
            <- answers   JSON, or what an error of the services is in HTTP

`shapes` and `describe` are the OpenAPI document; `app` puts all of it together. It decides nothing
of its own: what may be done, and what a field may hold, the services and the resource's rules say.
"""
