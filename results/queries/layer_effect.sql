-- mean and spread, over tokens, of what one big layer changes against all-small (needs --keep losses)
SELECT
    run,
    one.budget_kind,
    one.budget,
    strpos(one.pattern, 'B') - 1 AS layer,
    avg(one.loss - none.loss) AS mean,
    stddev(one.loss - none.loss) AS spread,
    avg((one.loss < none.loss)::INT) AS share_better,
    count(*) AS tokens
FROM losses AS one JOIN losses AS none USING (run, sequence, position)
WHERE one.n_big = 1 AND none.n_big = 0
    AND strpos(one.pattern, '.') = 0 AND strpos(none.pattern, '.') = 0
    AND one.budget_kind IS NOT DISTINCT FROM none.budget_kind AND one.budget IS NOT DISTINCT FROM none.budget
GROUP BY run, one.budget_kind, one.budget, layer
ORDER BY run, one.budget_kind, one.budget, layer
