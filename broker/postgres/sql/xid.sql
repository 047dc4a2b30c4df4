-- Draws a transaction id: one that is newer than all that were drawn before.
select pg_current_xact_id()::text::bigint
