-- how many patterns come within 0.01 and 0.1 nats of the best, and the least cost that does (needs --keep losses)
SELECT
    run,
    budget,
    count(*) AS tokens,
    avg(patterns) AS patterns,
    median(within_001) AS median_within_001,
    median(within_01) AS median_within_01,
    avg(least_big) AS mean_best_big,
    avg(least_big_01) AS mean_least_big_within_01
FROM (
    SELECT run, budget, sequence, position,
        count(*) AS patterns,
        count(*) FILTER (WHERE loss <= least + 0.01) AS within_001,
        count(*) FILTER (WHERE loss <= least + 0.1) AS within_01,
        min(cost) FILTER (WHERE loss = least) AS least_big,
        min(cost) FILTER (WHERE loss <= least + 0.1) AS least_big_01
    FROM (
        SELECT *, min(loss) OVER (PARTITION BY run, budget, sequence, position) AS least
        FROM losses
    )
    GROUP BY run, budget, sequence, position
)
GROUP BY run, budget
ORDER BY run, budget_order(budget)
