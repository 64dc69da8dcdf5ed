"""What is true in the data plane: the operator asks every running router what it runs.

    pods ─> observer ─> GET /status of each ─> report ─> Seen ─> judge ─> the resource's status
                 └────> an annotation on pods that lag, which makes their kubelet look at once

`report` and `judge` are pure. Routers are asked and never told anything; nothing here writes to an
LLMBackend, and whatever a router answers, no error comes of it.
"""
