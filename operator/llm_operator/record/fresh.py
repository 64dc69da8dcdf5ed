"""Which hours the hourly sums may not hold in full: the one answer for whoever reads both.

SQL only. A record is in the sums when its hour had ended and it was received before the last round
of rolling up. So hours are open from the one in which that round was, and an earlier one is when a
record of it has come since; a record is stored up to a transaction's length after its received_at,
so five minutes are looked at twice. This is what `rollup.due` goes by.
"""

#: When all that was due was last summed up.
UNTIL = "coalesce((SELECT until FROM llmb.llm_usage_rolled_up), to_timestamp(0))"

#: Each open hour. NB: two questions, because the first leaves out the partitions of earlier days,
#: and only the second has to look through all of them.
OPEN = f"""
    SELECT date_trunc('hour', at, 'UTC') AS hour FROM llmb.llm_usage
    WHERE at >= (SELECT date_trunc('hour', {UNTIL}, 'UTC'))
    UNION
    SELECT date_trunc('hour', at, 'UTC') FROM llmb.llm_usage
    WHERE received_at >= (SELECT {UNTIL} - interval '5 minutes')
"""
