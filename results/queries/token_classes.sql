-- share of tokens that are easy, stubborn (nothing helps), reducible (compute helps beyond selection bias), or within bias
-- easy: the cheapest pattern loses less than half a nat; stubborn: the oracle takes off less than a tenth of it; of the others the
-- reducible gain more than every label drawn from the full model (where none were drawn, selection bias is not known and they are "helped").
SELECT
    run,
    budget,
    class,
    count(*) / sum(count(*)) OVER (PARTITION BY run, budget) AS share,
    count(*) AS tokens,
    avg(loss_cheapest) AS all_small,
    avg(loss_full) AS all_big,
    avg(loss) AS loss,
    avg(difficulty) AS difficulty,
    avg(excess) AS excess
FROM measures
GROUP BY run, budget, class
ORDER BY run, budget_order(budget), class
