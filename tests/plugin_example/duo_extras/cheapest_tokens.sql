-- the tokens whose oracle path costs least, and how often
SELECT token, avg(cost) AS mean_cost, count(*) AS n
FROM oracle
GROUP BY token
ORDER BY mean_cost, n DESC, token
LIMIT 5
