-- Which of these tokens has taken a step in a transaction of its worker's.
-- Carried by outcome_pkey.
select o.token from respirate.outcome o where o.token = any ($1::uuid[])
