-- what can be reached: the gain of the reference's choice, which never saw the label, by class of token (null without a reference)
-- expected: as the reference expects it; realised: on the real label; hindsight: of the oracle, which sees the label.
SELECT
    run,
    budget,
    class,
    count(*) AS tokens,
    avg(reference_loss_target) AS reference_loss,
    avg(measures.loss_full) AS all_big,
    avg(measures.loss_full - measures.loss) AS hindsight,
    avg(ref_expected_gain) AS expected,
    avg(measures.loss_full - ref_loss) AS realised,
    avg((ref_pattern = oracle.pattern)::INT) AS same_pattern
FROM measures JOIN oracle USING (run, sequence, position, budget)
GROUP BY run, budget, class
ORDER BY run, budget_order(budget), class
