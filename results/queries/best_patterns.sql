-- the five patterns of least mean loss for every cost, chosen on the same tokens (needs --keep losses)
-- The cost counts big layers, or active experts where the branches are experts.
SELECT run, budget, any_value(n_big) AS n_big, cost, pattern, avg(loss) AS loss, exp(avg(loss)) AS perplexity, count(*) AS tokens
FROM losses
GROUP BY run, budget, cost, pattern
QUALIFY row_number() OVER (PARTITION BY run, budget, cost ORDER BY avg(loss), pattern) <= 5
ORDER BY run, budget_order(budget), cost, loss, pattern
