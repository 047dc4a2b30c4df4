-- Tells all brokers that one is there, or leaves.
select pg_notify('respirate_partition', $1)
