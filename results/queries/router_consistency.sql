-- routers, two by two (checkpoints, seeds, batch sizes): weighted Jaccard of (token, layer, B), beside what chance gives
SELECT
    run,
    router,
    other,
    sum(shared) / greatest(sum(n_big + other_n_big - shared), 1) AS jaccard,
    sum(expected) / greatest(sum(n_big + other_n_big - expected), 1) AS jaccard_random,
    avg(same::INT) AS same_pattern,
    avg(n_big) AS n_big,
    avg(other_n_big) AS other_n_big,
    count(*) AS tokens
FROM (
    SELECT l.run, l.router, r.router AS other, l.n_big, r.n_big AS other_n_big, l.pattern = r.pattern AS same,
        l.n_big * r.n_big / length(l.pattern) AS expected,
        len([1 FOR x IN list_zip(string_split(l.pattern, ''), string_split(r.pattern, '')) IF x[1] = 'B' AND x[2] = 'B']) AS shared
    FROM routes AS l JOIN routes AS r USING (run, sequence, position)
    WHERE l.router < r.router
)
GROUP BY run, router, other
ORDER BY run, router, other
