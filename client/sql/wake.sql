-- Makes a strand due now, or once more after its nap if it is running. Tells whether there is such a strand.
select respirate.wake($1::uuid)
