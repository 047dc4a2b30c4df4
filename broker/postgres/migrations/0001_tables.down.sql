drop function respirate.oldest_binary();
drop table respirate.broker, respirate.attempt, respirate.history, respirate.strand, respirate.lane, respirate.queue;
