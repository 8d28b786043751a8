-- the five patterns of least mean loss for every number of big layers, chosen on the same tokens (needs --keep losses)
SELECT run, budget, n_big, pattern, avg(loss) AS loss, exp(avg(loss)) AS perplexity, count(*) AS tokens
FROM losses
GROUP BY run, budget, n_big, pattern
QUALIFY row_number() OVER (PARTITION BY run, budget, n_big ORDER BY avg(loss), pattern) <= 5
ORDER BY run, budget_order(budget), n_big, loss, pattern
