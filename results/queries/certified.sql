-- share of answers that are proven best, and what the proof cost: patterns settled and vocabulary heads computed per token
SELECT
    run,
    budget,
    count(*) AS tokens,
    avg(certified::INT) AS certified,
    avg(evaluations) AS evaluations,
    avg(leaves) AS leaves,
    max(leaves) AS most_leaves
FROM oracle
GROUP BY run, budget
ORDER BY run, budget_order(budget)
