-- targets seen at least 5 times, by mean difficulty: which words compute helps
SELECT
    run,
    budget,
    target,
    count(*) AS times,
    avg(difficulty) AS difficulty,
    avg(loss_cheapest) AS all_small,
    avg(loss) AS loss,
    avg(n_big) AS mean_big
FROM oracle
GROUP BY run, budget, target, target_id
HAVING count(*) >= 5
ORDER BY run, budget_order(budget), difficulty DESC, target
