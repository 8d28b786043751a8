-- effect of a big layer averaged over what the others do, and its share of the variance over patterns (needs --keep losses)
-- Losses of all patterns of s and B (of . and B where the model has no small FFNs), --budget any: the shares add up to what layers
-- explain one at a time, the rest is interaction.
SELECT
    run,
    budget,
    layer,
    avg(effect) AS mu,
    stddev(effect) AS sigma,
    avg((effect < 0)::INT) AS helps,
    sum(effect ** 2 / 4) / sum(variance) AS share_of_variance,
    count(*) AS tokens
FROM (
    SELECT run, budget, sequence, position, layer,
        avg(loss) FILTER (pattern[letter] = 'B') - avg(loss) FILTER (pattern[letter] <> 'B') AS effect,
        var_pop(loss) AS variance
    FROM (
        SELECT losses.*, unnest(layers) AS layer, generate_subscripts(layers, 1) AS letter
        FROM losses JOIN runs USING (run)
        WHERE cheapest = '.' OR strpos(pattern, '.') = 0
    )
    GROUP BY run, budget, sequence, position, layer
)
GROUP BY run, budget, layer
ORDER BY run, budget_order(budget), layer
