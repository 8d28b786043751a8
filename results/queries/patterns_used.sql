-- how many different patterns the oracle uses, their entropy in nats, and the share of the commonest
SELECT
    run,
    budget,
    sum(uses)::BIGINT AS tokens,
    count(*) AS patterns,
    greatest(0, -sum(share * ln(share))) AS entropy,
    first(pattern ORDER BY uses DESC, pattern) AS commonest,
    max(share) AS commonest_share
FROM (
    SELECT run, budget, pattern, count(*) AS uses,
        count(*) / sum(count(*)) OVER (PARTITION BY run, budget) AS share
    FROM oracle
    GROUP BY run, budget, pattern
)
GROUP BY run, budget
ORDER BY run, budget_order(budget)
