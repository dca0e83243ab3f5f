-- name: take_lease
-- One row if the caller now leads: nobody did, its predecessor's time is over, or it renews its own lease.
insert into cuadre.leaders as held (name, holder, held_until)
values ($1, $2, clock_timestamp() + make_interval(secs => $3))
on conflict (name) do update
set holder = excluded.holder, held_until = excluded.held_until
where held.holder = excluded.holder or held.held_until <= clock_timestamp()
returning true;

-- name: give_back_lease
-- Ends a lease before its time, if it is the caller's.
delete from cuadre.leaders where name = $1 and holder = $2;
