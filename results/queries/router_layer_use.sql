-- routers: share of tokens that take each branch, per layer, beside an even use of the target and the oracle at that budget
SELECT
    routes.run,
    router,
    layer,
    avg((branch = 'B')::INT) AS big,
    avg((branch = 's')::INT) AS small,
    avg((branch = '.')::INT) AS skipped,
    any_value(target) / any_value(layers) AS even,
    any_value(oracle_big) AS oracle_big
FROM (
    SELECT run, router, target, length(pattern) AS layers,
        round(avg(n_big) OVER (PARTITION BY run, router)) AS nearest,
        unnest(string_split(pattern, '')) AS branch,
        generate_subscripts(string_split(pattern, ''), 1) - 1 AS layer
    FROM routes
) AS routes
LEFT JOIN (
    SELECT run, budget, oracle_layer, avg((oracle_branch = 'B')::INT) AS oracle_big
    FROM (
        SELECT run, budget,
            unnest(string_split(pattern, '')) AS oracle_branch,
            generate_subscripts(string_split(pattern, ''), 1) - 1 AS oracle_layer
        FROM paths
        WHERE budget_kind = 'exact'
    )
    GROUP BY ALL
) AS oracle ON oracle.run = routes.run AND budget = nearest AND oracle_layer = layer
GROUP BY routes.run, router, layer
ORDER BY routes.run, router, layer
