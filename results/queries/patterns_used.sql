-- how many different patterns the oracle uses, their entropy in nats, and the share of the commonest
SELECT
    run,
    budget_name AS budget,
    sum(uses)::BIGINT AS tokens,
    count(*) AS patterns,
    greatest(0, -sum(share * ln(share))) AS entropy,
    first(pattern ORDER BY uses DESC, pattern) AS commonest,
    max(share) AS commonest_share
FROM (
    SELECT run, budget_kind, budget, budget_name, pattern, count(*) AS uses,
        count(*) / sum(count(*)) OVER (PARTITION BY run, budget_kind, budget) AS share
    FROM oracle
    GROUP BY run, budget_kind, budget, budget_name, pattern
)
GROUP BY run, budget_kind, budget, budget_name
ORDER BY run, budget_kind, budget
