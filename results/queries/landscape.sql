-- effect of a big layer averaged over what the others do, and its share of the variance over patterns (needs --keep losses)
-- Losses of all patterns of s and B, --budget any: the shares add up to what layers explain one at a time, the rest is interaction.
SELECT
    run,
    budget_kind,
    budget,
    layer,
    avg(effect) AS mu,
    stddev(effect) AS sigma,
    avg((effect < 0)::INT) AS helps,
    sum(effect ** 2 / 4) / sum(variance) AS share_of_variance,
    count(*) AS tokens
FROM (
    SELECT run, budget_kind, budget, sequence, position, layer,
        avg(loss) FILTER (pattern[layer + 1] = 'B') - avg(loss) FILTER (pattern[layer + 1] = 's') AS effect,
        var_pop(loss) AS variance
    FROM (SELECT *, unnest(range(len(pattern::VARCHAR))) AS layer FROM losses WHERE strpos(pattern, '.') = 0)
    GROUP BY run, budget_kind, budget, sequence, position, layer
)
GROUP BY run, budget_kind, budget, layer
ORDER BY run, budget_kind, budget, layer
