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
        unnest(layers) AS layer
    FROM oracle JOIN runs USING (run)
)
GROUP BY run, budget_kind, budget, budget_name, layer
ORDER BY run, budget_kind, budget, layer
