-- routers: share of B along the sequence, in eighths of the longest one (do early tokens get more?)
SELECT
    run,
    router,
    eighth,
    avg(n_big / length(pattern)) AS big,
    avg(n_big) AS n_big,
    count(*) AS tokens
FROM (SELECT *, 8 * position // (1 + max(position) OVER (PARTITION BY run)) AS eighth FROM routes)
GROUP BY run, router, eighth
ORDER BY run, router, eighth
