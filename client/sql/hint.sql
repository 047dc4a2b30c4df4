-- Tells the brokers, when this transaction commits, that something is due.
select respirate.hint()
