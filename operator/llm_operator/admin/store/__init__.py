"""The LLMBackends of the admin side: read from a copy in memory, written where they belong.

    API server  ── list + watch ──> mirror ──┐
                                             ├──> shelf ──> list, get, by_model, until, changed
    folder of YAML ── files.watch ──> folder ┘
                                        cluster ──> server-side apply
                                        folder  ──> splices into the YAML text

`cluster.ClusterStore` and `folder.FolderStore` are the two `Store`s. What both decide is pure:
`names`, `owners`, `fields` (who owns what of an object), `commit` (YAML to commit), `words`,
`nodes` and `edit` (text of YAML).
"""
