-- share of tokens that are easy, reducible (compute helps beyond luck), within luck, or stubborn (nothing helps)
-- easy: all-small loses less than half a nat; stubborn: the oracle takes off less than a tenth of it; of the others the
-- reducible have an excess above zero (where no labels were drawn, luck is not known and all the others count as reducible).
SELECT
    run,
    budget_name AS budget,
    CASE
        WHEN loss_small < 0.5 THEN 'easy'
        WHEN difficulty < 0.1 * loss_small THEN 'stubborn'
        WHEN coalesce(excess > 0, true) THEN 'reducible'
        ELSE 'within luck'
    END AS class,
    count(*) / sum(count(*)) OVER (PARTITION BY run, budget_kind, budget) AS share,
    count(*) AS tokens,
    avg(loss_small) AS all_small,
    avg(loss_big) AS all_big,
    avg(loss) AS loss,
    avg(difficulty) AS difficulty
FROM oracle
GROUP BY run, budget_kind, budget, budget_name, class
ORDER BY run, budget_kind, budget, class
