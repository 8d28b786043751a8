-- mean and spread, over tokens, of what one big layer changes against the pattern without any (needs --keep losses)
-- That pattern is all-small, or all-skip in a model without small FFNs.
SELECT
    run,
    one.budget,
    layers[strpos(one.pattern, 'B')] AS layer,
    avg(one.loss - none.loss) AS mean,
    stddev(one.loss - none.loss) AS spread,
    avg((one.loss < none.loss)::INT) AS share_better,
    count(*) AS tokens
FROM losses AS one JOIN losses AS none USING (run, sequence, position) JOIN runs USING (run)
WHERE one.cost = 1 AND none.cost = 0
    AND (cheapest = '.' OR strpos(one.pattern, '.') = 0 AND strpos(none.pattern, '.') = 0)
    AND one.budget IS NOT DISTINCT FROM none.budget
GROUP BY run, one.budget, layer
ORDER BY run, budget_order(one.budget), layer
