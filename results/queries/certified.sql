-- share of answers that are proven best, and what the proof cost: patterns settled and vocabulary heads computed per token
SELECT
    run,
    budget_name AS budget,
    count(*) AS tokens,
    avg(certified::INT) AS certified,
    avg(evaluations) AS evaluations,
    avg(leaves) AS leaves,
    max(leaves) AS most_leaves
FROM oracle
GROUP BY run, budget_kind, budget, budget_name
ORDER BY run, budget_kind, budget
