-- Deletes strands from one partition of history that their queue keeps no longer; tells whether there may be more.
select respirate.forget($1::text::regclass)
