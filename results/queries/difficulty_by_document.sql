-- mean difficulty, gain and excess of every document
SELECT
    run,
    budget,
    document,
    count(*) AS tokens,
    avg(loss_cheapest) AS all_small,
    avg(loss_full) AS all_big,
    avg(loss) AS loss,
    avg(difficulty) AS difficulty,
    avg(loss_full - loss) AS gain,
    avg(excess) AS excess
FROM oracle
GROUP BY run, budget, document
ORDER BY run, budget_order(budget), difficulty DESC, document
