"""The admin API and its page: LLMBackends for people and programs that do not use kubectl.

    api, page -> service -> access   who may
                        │-> store    LLMBackends: the API server, or a folder of YAML
                        │-> archive  Postgres: ids, history, usage
                        └-> fleet    routers

It is a client of the resources like any other: it never writes the tables of the operator, and
without it resources, routers and operator go on.
"""
