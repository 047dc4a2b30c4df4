-- Takes strands as they are: a role that may do this still has no say over tokens, leases and counts.
copy respirate.strand (id, schedule, lane, max_tries, keep, label, args, tags, metadata) from stdin (format text, encoding 'UTF8')
