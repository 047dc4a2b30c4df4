-- Tells all who listen to a channel that a broker is there, or leaves.
-- Carried by no index.
select pg_notify($1, $2)
