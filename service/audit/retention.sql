-- name: drop_partitions
-- Drops the months of one table that end before `$2` days ago.
select cuadre.drop_partitions($1, ((clock_timestamp() at time zone 'UTC')::date - $2::integer));
