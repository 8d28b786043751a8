-- how often each layer is big, small or skipped in the oracle paths of each budget
SELECT
    run,
    budget_name AS budget,
    layer,
    avg((branch = 'B')::INT) AS big,
    avg((branch = 's')::INT) AS small,
    avg((branch = '.')::INT) AS skipped
FROM (
    SELECT run, budget_kind, budget, budget_name,
        unnest(string_split(pattern, '')) AS branch,
        generate_subscripts(string_split(pattern, ''), 1) - 1 AS layer
    FROM oracle
)
GROUP BY run, budget_kind, budget, budget_name, layer
ORDER BY run, budget_kind, budget, layer
