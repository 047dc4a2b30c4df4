-- Ends the server process ($1) of a take whose connection broke $2 ago. No row: there is none, and it leases nothing any more.
-- A process that has come to that number since then is another one.
-- Reads what the server knows of its processes, which are few.
select pg_terminate_backend(pid)
from pg_stat_activity
where pid = $1::int and datname = current_database() and usename = current_user and backend_start < now() - $2::interval
