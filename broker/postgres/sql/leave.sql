-- Withdraws a broker's announcement. One that has a number until then has not said goodbye: that is done for it.
-- Carried by broker_pkey.
with gone as (
  delete from respirate.broker b where b.broker = $1::uuid returning b.broker, b.partition
)
select pg_notify('respirate_partition', g.partition || ' ' || g.broker || ' left') from gone g where g.partition is not null
