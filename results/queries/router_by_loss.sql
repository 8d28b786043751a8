-- routers: share of B by all-small's loss, in eighths of the tokens, beside what all-big gains there (who gets compute?)
SELECT
    run,
    router,
    eighth,
    avg(n_big / length(pattern)) AS big,
    avg(loss_cheapest) AS loss_cheapest,
    avg(loss_cheapest - loss_full) AS gain_of_big,
    count(*) AS tokens
FROM (
    SELECT routes.*, loss_cheapest, loss_full,
        ntile(8) OVER (PARTITION BY routes.run, router ORDER BY loss_cheapest, sequence, position) AS eighth
    FROM routes
    JOIN (
        SELECT run, sequence, position, avg(loss_cheapest) AS loss_cheapest, avg(loss_full) AS loss_full FROM paths GROUP BY ALL
    ) USING (run, sequence, position)
)
GROUP BY run, router, eighth
ORDER BY run, router, eighth
