"""The same core without a cluster: a folder of YAML instead of the API server, a folder instead of
the ConfigMap.

    resources/*.yaml -> files -> engine -> config/ -> router
                                   └----> embedded Postgres

`up` puts it together; `identity` gives files what the API server gives objects.
"""
