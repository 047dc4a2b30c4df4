-- Bounds the statements of this transaction to $1, and has each planned for the values it is given.
select set_config('statement_timeout', $1, true), set_config('plan_cache_mode', 'force_custom_plan', true)
