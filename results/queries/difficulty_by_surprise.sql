-- difficulty within bands of the cheapest pattern's loss (all_small), since it grows with surprise by itself
SELECT
    run,
    budget,
    CASE WHEN loss_cheapest < 5 THEN floor(loss_cheapest)::INT ELSE 5 END AS nats_from,
    CASE WHEN loss_cheapest < 5 THEN floor(loss_cheapest)::INT + 1 END AS nats_to,
    count(*) AS tokens,
    avg(loss_cheapest) AS all_small,
    avg(loss) AS loss,
    avg(difficulty) AS difficulty,
    avg(loss_full - loss) AS gain,
    avg(null_gain) AS null_gain,
    avg(excess) AS excess
FROM oracle
GROUP BY run, budget, nats_from, nats_to
ORDER BY run, budget_order(budget), nats_from
