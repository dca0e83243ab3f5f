-- Moves the rows that found no month out of the default partitions and makes the months that they belong to.
-- For the alert CuadreDefaultPartitionRows; run with: psql -v ON_ERROR_STOP=1 -f empty-default-partitions.sql DSN
-- One transaction: all or nothing, and run again it finds nothing to do. It locks the four tables while it moves
-- rows; notifications that cannot be committed in that time are answered 503 and come again.

begin;

set local lock_timeout = '5s';

do $$
declare
    parent text;
    first_day date;
    child text;
begin
    -- Always in this order, so that two of these wait for each other instead of deadlocking.
    lock table cuadre.notifications, cuadre.order_versions, cuadre.fetches, cuadre.events in access exclusive mode;
    foreach parent in array array['notifications', 'order_versions', 'fetches', 'events'] loop
        execute format('alter table cuadre.%I detach partition cuadre.%I', parent, parent || '_default');
        for first_day in execute format('select distinct period from cuadre.%I', parent || '_default') loop
            child := format('%s_%s', parent, to_char(first_day, 'YYYYMM'));
            execute format(
                'create table if not exists cuadre.%I partition of cuadre.%I for values from (%L) to (%L)',
                child, parent, first_day, (first_day + interval '1 month')::date);
        end loop;
        execute format('insert into cuadre.%I select * from cuadre.%I', parent, parent || '_default');
        execute format('truncate cuadre.%I', parent || '_default');
        execute format('alter table cuadre.%I attach partition cuadre.%I default', parent, parent || '_default');
    end loop;
    perform cuadre.ensure_partitions(3);
end;
$$;

commit;
