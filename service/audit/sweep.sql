-- Searches through the provider's list, and the certificate of completeness that they allow.

-- name: begin_sweep
-- Where an account's standing sweep stands; begins it at `$2` where there is none. It has no bounds, hence one row.
with begun as (
    insert into cuadre.sweeps (account, kind, from_at, to_at, position_at, started_at, moved_at)
    values ($1, 'sweep', '-infinity', 'infinity', $2, now(), now())
    on conflict (account, kind, from_at, to_at) do nothing
    returning position_at
)
select position_at from begun
union all
select position_at
from cuadre.sweeps
where account = $1 and kind = 'sweep' and from_at = '-infinity' and to_at = 'infinity';

-- name: move_sweep
-- The orders of a page are dealt with: counts them, and moves the position, which never goes back.
update cuadre.sweeps set
    position_at = greatest(position_at, $2),
    page = $3,
    listed = listed + $4,
    unknown = unknown + $5,
    stale = stale + $6,
    moved_at = now(),
    last_error = null
where account = $1 and kind = 'sweep';

-- name: note_sweep_failure
-- Why the sweep of an account does not get on; its certificate says so, too.
with noted as (
    update cuadre.sweeps set last_error = $2 where account = $1 and kind = 'sweep'
)
update cuadre.completeness set last_error = $2 where account = $1;

-- name: begin_relisting
-- Where the slow second reading of an account stands; null while none is under way. It begins anew at `$2` when `$4` has
-- passed since it began; the first one waits as long, and `$3` is where it stands until then.
insert into cuadre.sweeps as s (account, kind, from_at, to_at, position_at, started_at, moved_at, finished_at)
values ($1, 'relisting', '-infinity', 'infinity', $3, now(), now(), now())
on conflict (account, kind, from_at, to_at) do update set
    position_at = case when s.finished_at is not null and s.started_at <= now() - $4::interval then $2
        else s.position_at end,
    finished_at = case when s.started_at > now() - $4::interval then s.finished_at end,
    started_at = case when s.finished_at is not null and s.started_at <= now() - $4::interval then now()
        else s.started_at end
returning case when finished_at is null then position_at end;

-- name: move_relisting
-- The orders of a page of the second reading are dealt with; `$3`: it is at its end.
update cuadre.sweeps set
    position_at = greatest(position_at, $2),
    finished_at = case when $3 then now() end,
    listed = listed + $4,
    unknown = unknown + $5,
    stale = stale + $6,
    moved_at = now()
where account = $1 and kind = 'relisting';

-- name: count_due
-- How many known orders of an account, of which somebody asked or told, wait for a look that nobody has begun, up to `$2`.
select count(*)
from (
    select from cuadre.sync
    where account = $1 and (trust > 0) = true and asked = true and due_at <= now()
      and (leased_until is null or leased_until <= now())
    limit $2
) as due;

-- name: look_is_due
-- Whether an order of an account waits for a look that nobody has begun. All queues are named, so that the index leads
-- to what is due and to nothing else.
select exists (
    select from cuadre.sync
    where account = $1 and (trust > 0) = any(array[true, false]) and asked = any(array[true, false])
      and due_at <= now() and (leased_until is null or leased_until <= now())
);

-- name: compare_listed
-- Which of the listed orders are unknown here, or stored as of an earlier change. One that was marked due for this very
-- change, and read since, is known: the list may date a change later than the order itself does. A mark that is gone was
-- answered by a look; one that began within ten minutes of the change may have met a replica that lags. A date that
-- cannot be true says nothing: a listed one more than a day ahead, or a stored one that the fence does not believe.
-- Changes nothing.
with listed as (
    select order_id, max(updated_at) as updated_at
    from unnest($1::text[], $2::timestamptz[]) as l(order_id, updated_at)
    group by order_id
)
select
    l.order_id,
    case
        when o.order_id is null then 'unknown'
        when l.updated_at is null or l.updated_at > now() + interval '1 day' then 'known'
        when o.updated_at = l.updated_at then 'known'
        when o.updated_at > l.updated_at and o.updated_at <= o.claimed_at + interval '10 minutes' then 'known'
        when s.listed_updated_at >= l.updated_at and o.claimed_at > l.updated_at + interval '10 minutes'
            and (o.claimed_at > s.marked_at or s.marked_at is null and s.last_error is null) then 'known'
        else 'stale'
    end as found
from listed as l
left join cuadre.orders as o on o.order_id = l.order_id
left join cuadre.sync as s on s.order_id = l.order_id
order by l.order_id;

-- name: mark_listed
-- The same, and marks the unknown and the older ones due: the provider itself listed them for the account, so they are
-- trusted like a verified notification. What waits for a look already keeps its place. What is in quarantine is tried
-- again every six hours at most: that the list shows it does not make it readable.
with listed as (
    select order_id, max(updated_at) as updated_at
    from unnest($2::text[], $3::timestamptz[]) as l(order_id, updated_at)
    group by order_id
),
compared as materialized (
    select
        l.order_id,
        case
            when o.order_id is null then 'unknown'
            when l.updated_at is null or l.updated_at > now() + interval '1 day' then 'known'
            when o.updated_at = l.updated_at then 'known'
            when o.updated_at > l.updated_at and o.updated_at <= o.claimed_at + interval '10 minutes' then 'known'
            when s.listed_updated_at >= l.updated_at and o.claimed_at > l.updated_at + interval '10 minutes'
            and (o.claimed_at > s.marked_at or s.marked_at is null and s.last_error is null) then 'known'
            else 'stale'
        end as found,
        l.updated_at
    from listed as l
    left join cuadre.orders as o on o.order_id = l.order_id
    left join cuadre.sync as s on s.order_id = l.order_id
),
owed as (
    select c.order_id, c.updated_at
    from compared as c
    left join cuadre.sync as s on s.order_id = c.order_id
    where c.found <> 'known'
      and (
          s.order_id is null
          or not (
              s.trust > 0 and coalesce(s.due_at <= now(), false) and coalesce(s.leased_until <= now(), true)
              or s.quarantined_at is not null
              and greatest(s.quarantined_at, s.marked_at) > now() - interval '6 hours'
          )
      )
),
marked as (
    insert into cuadre.sync as s (
        order_id, account, trust, requested, requested_trusted, due_at, cause, marked_at, listed_updated_at
    )
    select order_id, $1, 1, 1, 1, now(), 'sweep', now(), updated_at
    from owed
    order by order_id
    on conflict (order_id) do update set
        account = case when s.trust < 2 then excluded.account else s.account end,
        trust = greatest(s.trust, excluded.trust),
        requested = s.requested + 1,
        requested_trusted = s.requested + 1,
        due_at = least(s.due_at, now()),
        cause = 'sweep',
        notification_id = null,
        marked_at = now(),
        listed_updated_at = excluded.listed_updated_at
)
select order_id, found from compared order by order_id;

-- name: begin_backfill
-- Where a backfill of an account and range stands: where a killed one stood; a finished one begins anew.
insert into cuadre.sweeps as s (account, kind, from_at, to_at, position_at, started_at, moved_at)
values ($1, 'backfill', $2, $3, $2, now(), now())
on conflict (account, kind, from_at, to_at) do update set
    position_at = case when s.finished_at is null then s.position_at else excluded.position_at end,
    page = 1,
    listed = case when s.finished_at is null then s.listed else 0 end,
    unknown = case when s.finished_at is null then s.unknown else 0 end,
    stale = case when s.finished_at is null then s.stale else 0 end,
    started_at = case when s.finished_at is null then s.started_at else now() end,
    last_error = case when s.finished_at is null then s.last_error end,
    finished_at = null
returning position_at;

-- name: move_backfill
-- The orders of a page are stored, or their failure is noted.
update cuadre.sweeps set
    position_at = greatest(position_at, $4),
    page = $5,
    listed = listed + $6,
    unknown = unknown + $7,
    stale = stale + $8,
    moved_at = now(),
    last_error = coalesce($9, last_error)
where account = $1 and kind = 'backfill' and from_at = $2 and to_at = $3;

-- name: note_backfill_failure
-- Why a backfill ended before its time.
update cuadre.sweeps set last_error = $4
where account = $1 and kind = 'backfill' and from_at = $2 and to_at = $3;

-- name: finish_backfill
-- The whole range was listed.
update cuadre.sweeps set finished_at = now(), moved_at = now()
where account = $1 and kind = 'backfill' and from_at = $2 and to_at = $3;

-- name: begin_certificate
-- The certificate of a new account: nothing is certain yet.
insert into cuadre.completeness (account, complete_since, complete_until, checked_at)
values ($1, $2, $2, now())
on conflict (account) do nothing;

-- name: read_certificate
-- One account's certificate.
select
    account, complete_since, complete_until, checked_at, blocked_by, last_error, blind_types, types_since,
    (select count(*) from cuadre.excused_orders as e where e.account = c.account) as excused_orders
from cuadre.completeness as c
where account = $1;

-- name: read_certificates
-- All of them: for the API and the gauges.
select
    account, complete_since, complete_until, checked_at, blocked_by, last_error, blind_types, types_since,
    (select count(*) from cuadre.excused_orders as e where e.account = c.account) as excused_orders
from cuadre.completeness as c
order by account;

-- name: read_stored_of_hour
-- Stored orders that were created from `$2` to before `$3`: the list should show them. Nothing changes before it is
-- created, so the index by change leads to them.
select order_id, type
from cuadre.orders
where account = $1 and updated_at >= $2 and created_at >= $2 and created_at < $3
order by order_id;

-- name: read_excused
-- Of the orders `$1`, those that the certificate goes without.
select order_id from cuadre.excused_orders where order_id = any($1::text[]);

-- name: list_excused
-- All orders that certificates go without, and why.
select order_id, account, note, excused_at from cuadre.excused_orders order by account, order_id;

-- name: excuse_orders
-- The certificate goes without the orders `$1` from now on; `$2` says why. Only of orders that are stored, looked for,
-- or named by a certificate: anything else is a typing mistake.
insert into cuadre.excused_orders as e (order_id, account, note, excused_at)
select distinct on (asked.order_id) asked.order_id, coalesce(o.account, s.account, c.account), $2, now()
from unnest($1::text[]) as asked(order_id)
left join cuadre.orders as o on o.order_id = asked.order_id
left join cuadre.sync as s on s.order_id = asked.order_id
left join cuadre.completeness as c on asked.order_id = any(c.blocked_by)
where coalesce(o.account, s.account, c.account) is not null
order by asked.order_id, c.account
on conflict (order_id) do update set note = excluded.note, excused_at = excluded.excused_at
returning order_id;

-- name: take_excuse_back
-- The certificate asks for these orders again, in hours that it has not settled yet.
delete from cuadre.excused_orders where order_id = any($1::text[]) returning order_id;

-- name: read_types_certified
-- Of the types `$2`, those with stored orders that were created from `$3` to before `$4`, in certified hours, so that
-- the list has shown these types. What was stored later than its hour may be certified is no evidence.
select t.type
from unnest($2::text[]) as t(type)
where exists (
    select from cuadre.orders as o
    where o.account = $1 and o.type = t.type and o.updated_at >= $3 and o.created_at >= $3 and o.created_at < $4
      and o.first_seen_at < date_trunc('hour', o.created_at, 'UTC') + interval '90 minutes'
);

-- name: settle_hour
-- What a complete pass over the hour from `$2` to `$3` allows. A certificate that stands elsewhere by now is left alone:
-- somebody else has settled that hour. It speaks of the types `$8`, which it did not speak of before, from this hour on;
-- what it says of other types stays.
update cuadre.completeness as c set
    complete_until = case when $4 then $3 else c.complete_until end,
    checked_at = now(),
    blocked_by = $5::text[],
    last_error = $6,
    blind_types = (
        select coalesce(array_agg(distinct t.type order by t.type), '{}')
        from unnest(c.blind_types || $7::text[]) as t(type)
        where t.type <> all($8::text[])
    ),
    types_since = (c.types_since - $7::text[]) || (
        select coalesce(jsonb_object_agg(t.type, $2::timestamptz), '{}')
        from unnest($8::text[]) as t(type)
        where t.type = any(c.blind_types)
    )
where c.account = $1 and c.complete_until = $2
returning c.complete_until;

-- name: take_certificate_back
-- The orders `$2`, created in the hours from `$3`, are listed and not stored: a certificate that speaks of such an hour
-- goes back to the first of them and names the orders, `$4` at most.
with missing as (
    select m.order_id, m.hour
    from unnest($2::text[], $3::timestamptz[]) as m(order_id, hour)
    join cuadre.completeness as c on c.account = $1 and m.hour >= c.complete_since and m.hour < c.complete_until
    where not exists (select from cuadre.excused_orders as e where e.order_id = m.order_id)
)
update cuadre.completeness as c set
    complete_until = (select min(hour) from missing),
    checked_at = now(),
    blocked_by = array(select order_id from missing order by hour, order_id limit $4)
where c.account = $1 and c.complete_until > (select min(hour) from missing)
returning c.complete_until, c.blocked_by;

-- name: forget_failure
-- The sweep works again, and no hour is to be settled yet.
update cuadre.completeness set last_error = null
where account = $1 and last_error is not null and blocked_by = '{}';

-- name: count_left_out
-- Of the stored orders that were created from `$2` to before `$3`, those that the list (`$4`) did not show, by type;
-- excused ones aside.
select o.type, count(*) as number, min(o.order_id) as example
from cuadre.orders as o
left join unnest($4::text[]) as l(order_id) on l.order_id = o.order_id
where o.account = $1 and o.updated_at >= $2 and o.created_at >= $2 and o.created_at < $3 and o.type is not null
  and l.order_id is null
  and not exists (select from cuadre.excused_orders as e where e.order_id = o.order_id)
group by o.type
order by o.type;

-- name: extend_certificate
-- A clean backfill reaches from `$2` to the certificate's begin or beyond. `$4`: types that the list showed in it.
update cuadre.completeness as c set
    complete_since = $2,
    blind_types = (
        select coalesce(array_agg(distinct t.type order by t.type), '{}')
        from (
            select unnest(c.blind_types) as type
            union
            select o.type
            from cuadre.orders as o
            where o.account = $1 and o.updated_at >= $2 and o.created_at >= $2 and o.created_at < c.complete_since
              and o.type <> all($4::text[]) and not c.types_since ? o.type
        ) as t
        where t.type is not null
    )
where c.account = $1 and c.complete_since > $2 and c.complete_since <= $3
returning c.complete_since;

-- name: renew_blind_types
-- A clean backfill has listed all that the certificate speaks of, from `$2` to `$3`: what it says of types is known
-- anew. `$4`: types that the list showed.
update cuadre.completeness as c set
    blind_types = (
        select coalesce(array_agg(distinct o.type order by o.type), '{}')
        from cuadre.orders as o
        where o.account = $1 and o.updated_at >= c.complete_since and o.created_at >= c.complete_since
          and o.created_at < c.complete_until and o.type <> all($4::text[]) and not c.types_since ? o.type
    )
where c.account = $1 and c.complete_since >= $2 and c.complete_until <= $3;

-- name: widen_types
-- A clean backfill has listed from `$2`, where the certificate begins or earlier, to `$3`: of the types `$4`, which the
-- list showed in it, the certificate speaks from its begin on, where it spoke of them from within that range on.
update cuadre.completeness as c set
    types_since = (
        select coalesce(jsonb_object_agg(t.type, t.since), '{}')
        from jsonb_each_text(c.types_since) as t(type, since)
        where t.type <> all($4::text[]) or t.since::timestamptz > $3
    )
where c.account = $1 and c.complete_since >= $2 and c.types_since <> '{}';

-- name: read_samples_of_types
-- The latest stored orders of each type and account that were created within a week and not within the last hour: the
-- doctor looks whether the list shows them.
select account, type, order_id, created_at
from (
    select
        account, type, order_id, created_at,
        row_number() over (partition by account, type order by created_at desc, order_id) as place
    from cuadre.orders
    where account = any($1::text[])
      and updated_at >= now() - interval '7 days'
      and created_at between now() - interval '7 days' and now() - interval '1 hour'
      and type in ('qr', 'point', 'online')
) as latest
where place <= 3
order by account, type, place;
