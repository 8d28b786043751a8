-- own and later effect of changing one letter, by layer: loss and KL, and the later tokens' share (after duo-oracle effects)
SELECT
    run,
    base,
    ahead,
    layer,
    before || '>' || after AS change,
    count(*) AS flips,
    avg(own_effect) AS own_effect,
    avg(later_effect) AS later_effect,
    avg(kl_own) AS kl_own,
    avg(kl_later) AS kl_later,
    sum(kl_later) / nullif(sum(kl_own + kl_later), 0) AS later_share_of_kl,
    avg((own_effect < 0 AND own_effect + later_effect > 0)::INT) AS share_misled
FROM effects
GROUP BY run, base, ahead, layer, before, after
ORDER BY run, base, ahead, layer, change
