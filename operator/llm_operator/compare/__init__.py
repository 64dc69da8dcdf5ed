"""How the backends of one model compare, from recorded traffic.

    Postgres -> model -> statistics -> document -> table
                         (admin API)   (JSON)      (llmb compare)

All but `command` is pure: it decides what a difference is worth, and how it is told.
"""
