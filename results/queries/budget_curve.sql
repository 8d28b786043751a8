-- loss against the budget: oracle, full model (all_big), cheapest pattern (all_small), with gain, null gain and excess over all tokens
SELECT
    run,
    context,
    budget,
    count(*) AS tokens,
    avg(oracle.loss) AS loss,
    exp(avg(oracle.loss)) AS perplexity,
    avg(n_big) AS mean_big,
    avg(loss_full) AS all_big,
    avg(loss_cheapest) AS all_small,
    avg(loss_full - loss) AS gain,
    avg(null_gain) AS null_gain,
    avg(excess) AS excess
FROM oracle JOIN runs USING (run)
GROUP BY run, context, budget
ORDER BY run, budget_order(budget)
