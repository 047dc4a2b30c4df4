-- The partitions of history in which queues with different retentions meet.
select p::text from respirate.mixed_partitions() p
