-- the 50 tokens with the greatest difficulty (the cheapest pattern's loss minus the oracle's), each under its best budget
SELECT run, document, sequence, position, token, target, difficulty, loss_cheapest, loss, loss_full, pattern, budget
FROM oracle
QUALIFY row_number() OVER (PARTITION BY run, sequence, position ORDER BY loss, cost, budget_order(budget)) = 1
ORDER BY difficulty DESC, run, sequence, position
LIMIT 50
