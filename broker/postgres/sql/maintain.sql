-- Makes partitions ahead and drops the oldest.
select respirate.maintain()
