drop function respirate.grant_client(regrole);
drop function respirate.forget(regclass);
drop function respirate.mixed_partitions();
drop function respirate.maintain();
drop function respirate.at_work();
drop function respirate.drop_partitions(regclass, timestamptz);
drop function respirate.add_partition(regclass, text, date);
drop view respirate.brokers, respirate.queues, respirate.attempts, respirate.finished, respirate.lanes, respirate.strands;
