-- gain over the full model beside the gain on labels drawn from it; standard errors treat documents as independent
SELECT
    run,
    budget,
    sum(n)::BIGINT AS tokens,
    count(*) AS documents,
    sum(gain) / sum(n) AS gain,
    sum(null_gain) / sum(n) AS null_gain,
    sum(excess) / sum(n) AS excess,
    sqrt(count(*) / nullif(count(*) - 1, 0) * sum((excess - n * mean_excess) ** 2)) / sum(n) AS excess_error
FROM (
    SELECT run, budget, document,
        count(*) AS n,
        sum(loss_full - loss) AS gain,
        sum(null_gain) AS null_gain,
        sum(excess) AS excess,
        sum(sum(excess)) OVER every / sum(count(*)) OVER every AS mean_excess
    FROM oracle
    WHERE null_gain IS NOT NULL
    GROUP BY run, budget, document
    WINDOW every AS (PARTITION BY run, budget)
)
GROUP BY run, budget
ORDER BY run, budget_order(budget)
