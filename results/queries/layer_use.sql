-- how often each layer is big, small or skipped in the oracle paths of each budget
SELECT
    run,
    budget,
    layer,
    avg((branch = 'B')::INT) AS big,
    avg((branch = 's')::INT) AS small,
    avg((branch = '.')::INT) AS skipped
FROM (
    SELECT run, budget,
        unnest(string_split(pattern, '')) AS branch,
        unnest(layers) AS layer
    FROM oracle JOIN runs USING (run)
)
GROUP BY run, budget, layer
ORDER BY run, budget_order(budget), layer
