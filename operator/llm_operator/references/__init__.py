"""What LLMBackends refer to: Secrets, ConfigMaps and Services of their namespace.

    resources, configuration -> sought -> finder (reads) -> Found ─┬─> supply -> vault (writes)
                                                                  └─> resolve -> plan, status

`sought`, `resolve` and `supply` are pure; `keeper` is the one part that reads and writes, through
`ports`. A value goes from where it is found to the routers' Secret and nowhere else: no message, no
log line and no text form of a value here holds one.
"""
