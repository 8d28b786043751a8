-- what looking at whole windows adds to deciding token by token: the joint oracle beside the committed run (after duo-oracle joint)
SELECT
    run,
    budget,
    width,
    count(*) AS tokens,
    avg(loss_full) AS loss_full,
    avg(loss_committed) AS loss_committed,
    avg(loss) AS loss_joint,
    avg(loss_committed - loss) AS gap,
    avg(expected_committed - expected) AS expected_gap,
    avg((pattern <> pattern_committed)::INT) AS share_changed
FROM joint
GROUP BY run, budget, width
ORDER BY run, budget, width
