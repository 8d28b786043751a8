-- share of big branches per layer along the sequence, in eighths of the longest one (are late tokens given other layers?)
SELECT
    run,
    budget,
    eighth,
    layer,
    avg((branch = 'B')::INT) AS big,
    count(*) AS tokens
FROM (
    SELECT run, budget,
        8 * position // (1 + max(position) OVER (PARTITION BY run)) AS eighth,
        unnest(string_split(pattern, '')) AS branch,
        unnest(layers) AS layer
    FROM oracle JOIN runs USING (run)
)
GROUP BY run, budget, eighth, layer
ORDER BY run, budget_order(budget), eighth, layer
