-- routers: B's per token against the target, spread, starved and saturated layers; with runs of two domains, the shift between them
SELECT
    run,
    router,
    any_value(target) AS target,
    sum(share) AS n_big,
    sum(share) - any_value(target) AS error,
    any_value(spread) AS spread,
    min(share) AS least_used,
    max(share) AS most_used,
    count(*) FILTER (WHERE share < 0.01) AS starved_layers,
    count(*) FILTER (WHERE share > 0.99) AS saturated_layers,
    any_value(tokens) AS tokens
FROM (
    SELECT run, router, layer, any_value(target) AS target, any_value(spread) AS spread,
        avg((branch = 'B')::INT) AS share, count(*) AS tokens
    FROM (
        SELECT run, router, target,
            stddev_pop(n_big) OVER (PARTITION BY run, router) AS spread,
            unnest(string_split(pattern, '')) AS branch,
            generate_subscripts(string_split(pattern, ''), 1) - 1 AS layer
        FROM routes
    )
    GROUP BY run, router, layer
)
GROUP BY run, router
ORDER BY run, router
