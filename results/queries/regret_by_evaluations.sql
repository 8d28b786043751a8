-- the best loss so far against the number of trials, as a mean over tokens (needs --keep trials)
SELECT run, budget, trial + 1 AS evaluations, avg(best) AS best_loss, avg(best - last) AS above_final, count(*) AS tokens
FROM (
    SELECT run, budget, sequence, position, trial,
        min(loss) OVER (PARTITION BY run, budget, sequence, position ORDER BY trial) AS best,
        min(loss) OVER (PARTITION BY run, budget, sequence, position) AS last
    FROM trials
)
GROUP BY run, budget, trial
ORDER BY run, budget_order(budget), trial
