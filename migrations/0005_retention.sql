-- Retention: months of notifications, versions, fetches and events that policy no longer keeps are dropped whole.
-- Orders, their parts and discrepancies stay.

-- Drops the partitions of `parent` whose last day is before `keep_from`; returns their names. The default partition and
-- the current month always stay. Only what `ensure_partitions` made is dropped: its names tell the month.
create function cuadre.drop_partitions(parent text, keep_from date) returns text[]
    language plpgsql
    set search_path = pg_catalog, pg_temp
    -- Dropping locks the whole table: rather later than making everybody wait behind a long reader.
    set lock_timeout = '200ms'
as $$
declare
    child text;
    dropped text[] := '{}';
begin
    if parent not in ('notifications', 'order_versions', 'fetches', 'events') then
        raise exception 'cuadre.% is never dropped', parent;
    end if;
    for child in
        select c.relname
        from pg_inherits as i
        join pg_class as c on c.oid = i.inhrelid
        where i.inhparent = format('cuadre.%I', parent)::regclass
          and c.relname ~ ('^' || parent || '_[0-9]{6}$')
          and to_date(right(c.relname, 6), 'YYYYMM') + interval '1 month' <= keep_from
          and to_date(right(c.relname, 6), 'YYYYMM') + interval '1 month' <= cuadre.period_of(clock_timestamp())
        order by c.relname
    loop
        begin
            execute format('drop table cuadre.%I', child);
            dropped := dropped || child;
        exception when lock_not_available then
            raise warning 'cuadre.% is in use: not dropped yet', child;
        end;
    end loop;
    return dropped;
end;
$$;
