"""The commands of `llmb` that look and tell, or tidy up, and then end.

    files -> documents -> manifests -> validate, render      offline
    API server -> status, uninstall                          through `api`

Each module of a command has `add_arguments` and `run`. What is asked for goes to standard output,
all else to standard error. None of them starts anything that stays.
"""
