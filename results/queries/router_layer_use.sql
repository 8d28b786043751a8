-- routers: share of tokens that take each branch, per layer, beside an even use of the target and the oracle at that budget
SELECT
    routes.run,
    router,
    layer,
    avg((branch = 'B')::INT) AS big,
    avg((branch = 's')::INT) AS small,
    avg((branch = '.')::INT) AS skipped,
    any_value(target) / any_value(n_letters) AS even,
    any_value(oracle_big) AS oracle_big
FROM (
    SELECT run, router, target, length(pattern) AS n_letters,
        round(avg(n_big) OVER (PARTITION BY run, router)) AS nearest,
        unnest(string_split(pattern, '')) AS branch,
        unnest(layers) AS layer
    FROM routes JOIN runs USING (run)
) AS routes
LEFT JOIN (
    SELECT run, budget, oracle_layer, avg((oracle_branch = 'B')::INT) AS oracle_big
    FROM (
        SELECT run, budget,
            unnest(string_split(pattern, '')) AS oracle_branch,
            unnest(layers) AS oracle_layer
        FROM paths JOIN runs USING (run)
    )
    GROUP BY ALL
) AS oracle ON oracle.run = routes.run AND budget = nearest::INT::VARCHAR AND oracle_layer = layer
GROUP BY routes.run, router, layer
ORDER BY routes.run, router, layer
