-- Makes partitions ahead and forgets what is old, in bounded portions; tells whether there is more to forget.
select respirate.maintain()
