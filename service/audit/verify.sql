-- Comparing what is stored with what the provider answers: runs, what they found, and the rows that they compare. A
-- line that ends in `-- if NAME` stands only where NAME is given (service/web/statements.py).

-- name: find_verification
-- The latest run that was asked for in these words: the same call goes on with it where it was interrupted.
select
    verification_id, kind, account, repair, since, started_at, moved_at, finished_at, cursor, to_check, checked, equal,
    drifted, repaired, unanswered, moved_at > clock_timestamp() - make_interval(hours => $5) as is_recent
from cuadre.verifications
where kind = $1 and account is not distinct from $2 and repair = $3 and since is not distinct from $4
order by verification_id desc
limit 1;

-- name: count_orders
-- How many stored orders a run has before it, and of those whose row is gone as many as have a line in `sync` still.
select (
    select count(*)
    from cuadre.orders
    where ($1::text is null or account = $1)
      and ($2::timestamptz is null or updated_at >= $2 or fetched_at >= $2 or changed_at >= $2)
) + (
    select count(*)
    from cuadre.sync as s
    where s.trust = 2 and ($1::text is null or s.account = $1) and ($2::timestamptz is null or s.claimed_at >= $2)
      and not exists (select from cuadre.orders as o where o.order_id = s.order_id)
);

-- name: begin_verification
-- A new run.
insert into cuadre.verifications (kind, account, repair, since, started_at, moved_at, to_check)
values ($1, $2, $3, $4, clock_timestamp(), clock_timestamp(), $5)
returning
    verification_id, kind, account, repair, since, started_at, moved_at, finished_at, cursor, to_check, checked, equal,
    drifted, repaired, unanswered;

-- name: last_order
-- The last id that is stored or known of; null where there is none. A run goes no further than it was at its start: ids
-- that are told of meanwhile, by whomever, would keep it from ever ending.
select greatest(
    (select max(order_id) from cuadre.orders), (select max(order_id) from cuadre.sync),
    (select max(order_id) from cuadre.order_versions)
);

-- name: next_orders
-- The next orders of a run, in the order of their ids. Orders first seen after its start are left to the next run, or
-- it would never end beside a busy till; a first sight in the future is nobody's, and is no way to hide. Among them
-- those that were stored, as `sync` or the versions say, and whose row is gone. `upto`: how far all of them were looked
-- for, `$6` lines ahead at most, and to `$7`; one row without an order where there is none; `more`: whether that is any
-- way at all.
with stretch as materialized (
    select least(
        (select order_id from cuadre.sync where order_id > $1 order by order_id offset $6 limit 1),
        (select order_id from cuadre.order_versions where order_id > $1 order by order_id offset $6 limit 1),
        $7::text
    ) as upto
),
stored as materialized (
    select order_id
    from cuadre.orders
    where order_id > $1
      and order_id <= (select upto from stretch)
      and ($2::text is null or account = $2)
      and ($3::timestamptz is null or updated_at >= $3 or fetched_at >= $3 or changed_at >= $3)
      and (first_seen_at <= $4 or first_seen_at > clock_timestamp())
    order by order_id
    limit $5
),
reach as materialized (
    select case when count(*) = $5 then max(order_id) else (select upto from stretch) end as upto from stored
),
gone as materialized (
    select order_id
    from (
        select order_id from cuadre.sync
        where trust = 2 and order_id > $1 and order_id <= (select upto from reach)
        union
        select order_id from cuadre.order_versions where order_id > $1 and order_id <= (select upto from reach)
    ) as known
    where not exists (select from cuadre.orders as o where o.order_id = known.order_id)
),
found as (
    select order_id from stored
    union all
    select g.order_id
    from gone as g
    left join cuadre.sync as s on s.order_id = g.order_id and s.trust = 2
    left join lateral (
        select account, updated_at, observed_at
        from cuadre.order_versions as v
        where v.order_id = g.order_id
        order by version desc, observed_at desc
        limit 1
    ) as last on true
    where ($2::text is null or coalesce(s.account, last.account) = $2)
      and ($3::timestamptz is null or s.claimed_at >= $3 or last.updated_at >= $3 or last.observed_at >= $3)
)
select found.order_id, reach.upto, coalesce(reach.upto > $1, false) as more
from reach
left join found on true
order by found.order_id
limit $5;

-- name: sample_orders
-- Some orders by chance, among them some that `sync` says were stored and whose row is gone, where there are any. Of a
-- large table a share of its pages is read, several times what is wanted; of an account of at most `$5` orders its index
-- is read. `$4`: how many orders the account has. Of `sync` at most `$6` pages are read.
select order_id
from (
    select order_id
    from cuadre.orders tablesample system ((
        select case
            when $2::text is not null and $4::bigint <= $5::bigint then 0
            when $3::timestamptz is not null then 100
            else least(100, 100 * (20 * $1::bigint + 2000) / greatest(coalesce($4::bigint, c.reltuples), 1))
        end
        from pg_class as c
        where c.oid = 'cuadre.orders'::regclass
    ))
    where ($2::text is null or account = $2 and $4::bigint > $5::bigint)
      and ($3::timestamptz is null or updated_at >= $3 or fetched_at >= $3 or changed_at >= $3)
    union all
    (
        select order_id
        from cuadre.orders
        where account = $2 and $4::bigint <= $5::bigint
          and ($3::timestamptz is null or updated_at >= $3 or fetched_at >= $3 or changed_at >= $3)
        -- In the order of the index: so that it is the index that is read.
        order by updated_at desc, order_id desc
        limit $5::bigint
    )
    union all
    select s.order_id
    from cuadre.sync as s tablesample system ((
        least(100, 100.0 * $6::bigint * current_setting('block_size')::bigint
            / greatest(pg_relation_size('cuadre.sync'), 1))
    ))
    where s.trust = 2 and ($2::text is null or s.account = $2) and ($3::timestamptz is null or s.claimed_at >= $3)
      -- One by one: as a join, all orders may be read for it.
      and (select o.order_id from cuadre.orders as o where o.order_id = s.order_id) is null
) as drawn
order by random()
limit $1::bigint;

-- name: read_orders
-- The orders' rows as they are stored, whether a look at each is under way or was asked for just now, and whether one
-- is owed at all.
select
    o.*,
    coalesce(s.leased_until > now() or s.due_at between now() - interval '10 seconds' and now(), false)
        as look_under_way,
    s.order_id is not null as has_sync_row, s.due_at as look_due_at, s.quarantined_at is not null as is_quarantined
from cuadre.orders as o
left join cuadre.sync as s on s.order_id = o.order_id
where o.order_id = any($1::text[])
order by o.order_id;

-- name: read_lost_orders
-- Those of these orders that were stored, as `sync` or the versions say, and whose row is gone; and whose they were.
select w.order_id, coalesce(s.account, last.account) as account
from unnest($1::text[]) as w(order_id)
left join cuadre.sync as s on s.order_id = w.order_id and s.trust = 2
left join lateral (
    select account
    from cuadre.order_versions as v
    where v.order_id = w.order_id
    order by version desc, observed_at desc
    limit 1
) as last on true
where coalesce(s.account, last.account) is not null
  and not exists (select from cuadre.orders as o where o.order_id = w.order_id)
order by w.order_id;

-- name: read_versions
-- All that was ever stored of an order, first to last.
select version, updated_at, claimed_at, observed_at, payload::text as payload
from cuadre.order_versions
where order_id = $1
order by version, observed_at;

-- name: put_back_order
-- A row for an order whose row is gone, as its last version left it and with the number that was last given, so that
-- the next version is the next number; empty where no version is left. `$3` is its time, `$7` whether it names a payer.
-- Should this process end here, the order is due at once, and any look writes it anew.
with back as (
    insert into cuadre.orders (
        order_id, account, type, status, status_detail, total_amount, currency, paid_amount, refunded_amount,
        updated_at, payload, payload_hash, history, version, claimed_at, fetched_at, first_seen_at, changed_at,
        payer_erased_at
    )
    select
        $1, $2, v.type, v.status, v.status_detail, v.total_amount, v.currency, coalesce(v.paid_amount, 0),
        coalesce(v.refunded_amount, 0), $3::timestamptz, coalesce(v.payload, '{}'), ''::bytea, $5::text::jsonb,
        coalesce(greatest(
            v.version,
            (select max(version) from cuadre.events where order_id = $1 and type = 'order.changed'),
            (select max(version) from cuadre.fetches where order_id = $1)
        ), 0),
        $4::timestamptz, coalesce(v.observed_at, now()), coalesce($6::timestamptz, now()),
        coalesce(v.observed_at, now()), case when not $7::boolean then now() end
    from (select) as one
    left join lateral (
        select *
        from cuadre.order_versions
        where order_id = $1
        order by version desc, observed_at desc
        limit 1
    ) as v on true
    on conflict (order_id) do nothing
    returning order_id
)
update cuadre.sync as s set due_at = least(s.due_at, now()), cause = 'repair', notification_id = null, trust = 2
from back
where s.order_id = back.order_id;

-- name: read_payments
-- The payments of these orders.
select * from cuadre.payments where order_id = any($1::text[]);

-- name: read_refunds
-- The refunds of these orders.
select * from cuadre.refunds where order_id = any($1::text[]);

-- name: read_chargebacks
-- The chargebacks of these orders.
select * from cuadre.chargebacks where order_id = any($1::text[]);

-- name: read_cash_outs
-- The cash-outs of these orders.
select * from cuadre.cash_outs where order_id = any($1::text[]);

-- name: advance_verification
-- A page is done: the run moves on from where this process read it. No row: another process goes on with the run.
-- What was found to differ counts with the drifts.
update cuadre.verifications set
    cursor = $4, checked = checked + $5, equal = equal + $6, unanswered = unanswered + $7, moved_at = clock_timestamp()
where verification_id = $1 and cursor = $2 and checked = $3 and finished_at is null
returning verification_id;

-- name: found_before
-- Which of these orders this run has found to differ already. `$3` are the fields that are no difference.
select distinct order_id
from cuadre.drifts
where verification_id = $1 and order_id = any($2::text[]) and field <> all($3::text[]);

-- name: keep_drifts
-- What was found, one row a field; found again after an interruption it stays one row.
insert into cuadre.drifts as d (verification_id, order_id, account, field, stored, provider, found_at)
select $1, order_id, account, field, stored, provider, clock_timestamp()
from unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[]) as f(order_id, account, field, stored, provider)
order by order_id, field
on conflict (order_id, verification_id, field) do update set stored = excluded.stored, provider = excluded.provider;

-- name: mark_repaired
-- These orders are equal again.
update cuadre.drifts as d set repaired_at = clock_timestamp()
from (
    select order_id, field
    from cuadre.drifts
    where verification_id = $1 and order_id = any($2::text[]) and repaired_at is null
    order by order_id, field
    for update
) as mended
where d.verification_id = $1 and d.order_id = mended.order_id and d.field = mended.field;

-- name: note_equal
-- Of these orders, those that an earlier comparison found to differ: that they are equal now ends their drift. `$4` is
-- the field that says so, `$5` are the fields that are no difference.
insert into cuadre.drifts as mark (verification_id, order_id, account, field, found_at)
select $1, o.order_id, o.account, $4, clock_timestamp()
from unnest($2::text[], $3::text[]) as o(order_id, account)
where exists (
    select from cuadre.drifts as d
    where d.order_id = o.order_id and d.verification_id <> $1 and d.field <> all($5::text[]) and d.repaired_at is null
      and not exists (
          select from cuadre.drifts as later
          where later.order_id = d.order_id and later.field = $4 and later.found_at > d.found_at
      )
)
order by o.order_id
on conflict (order_id, verification_id, field) do update set found_at = excluded.found_at;

-- name: count_drifts
-- The run's sums, from what it found. `$2` are the fields that are no difference.
update cuadre.verifications as v set
    checked = v.checked + found.drifted - v.drifted, drifted = found.drifted, repaired = found.repaired
from (
    select count(*) as drifted, count(*) filter (where mended) as repaired
    from (
        select order_id, bool_and(repaired_at is not null) as mended
        from cuadre.drifts
        where verification_id = $1 and field <> all($2::text[])
        group by order_id
    ) as by_order
) as found
where v.verification_id = $1
returning
    v.verification_id, v.kind, v.account, v.repair, v.since, v.started_at, v.moved_at, v.finished_at, v.cursor,
    v.to_check, v.checked, v.equal, v.drifted, v.repaired, v.unanswered;

-- name: finish_verification
-- The run came to its end.
update cuadre.verifications set finished_at = clock_timestamp(), moved_at = clock_timestamp()
where verification_id = $1 and finished_at is null
returning
    verification_id, kind, account, repair, since, started_at, moved_at, finished_at, cursor, to_check, checked, equal,
    drifted, repaired, unanswered;

-- name: read_drifts
-- What a run found, by order. `$3` is the field that says that an order is equal.
select order_id, account, field, stored, provider, found_at, repaired_at
from cuadre.drifts
where verification_id = $1 and field <> $3
order by order_id, field
limit $2;

-- name: has_sync_row
-- Whether anybody would ever look at the order.
select exists (select from cuadre.sync where order_id = $1);

-- name: clear_for_repair
-- What keeps an answer from being written: the hash that calls it unchanged is cleared, and the provider time that calls
-- it older becomes `$4`, the answer's own or a little before it. Answers that are older still stay out.
-- Guarded by the claim's stamp, `$2`: what a later look wrote stays; and by the stamp that the row was judged with, `$3`.
-- Should this process end here, the order is due at once, and any look writes it anew.
with cleared as (
    update cuadre.orders set payload_hash = ''::bytea, updated_at = $4
    where order_id = $1 and claimed_at < $2 and claimed_at = $3
    returning order_id
)
update cuadre.sync as s set due_at = least(s.due_at, now()), cause = 'repair', notification_id = null, trust = 2
from cleared
where s.order_id = cleared.order_id;

-- name: read_last_nightly
-- When the last nightly comparison of each of these accounts that came to its end began; before the first, when this
-- database came into being. A run of no account compared all of them.
select a.account, now() as now, greatest(
    (
        select max(started_at) from cuadre.verifications as v
        where v.kind = 'nightly' and v.finished_at is not null and (v.account is null or v.account = a.account)
    ),
    (select min(applied_at) from cuadre.schema_migrations)
) as last_at
from unnest($1::text[]) with ordinality as a(account, position)
order by a.position;

-- name: count_by_account
-- How many orders of these accounts are stored, or were, as `sync` says, and are gone. Up to `$2` are counted one by one
-- in the account's index; where there are more, and of `sync`, `$3` pages are counted and stand for the whole table.
with shares as materialized (
    select
        least(100, 100.0 * $3::bigint * current_setting('block_size')::bigint
            / greatest(pg_relation_size('cuadre.orders'), 1)) as orders,
        least(100, 100.0 * $3::bigint * current_setting('block_size')::bigint
            / greatest(pg_relation_size('cuadre.sync'), 1)) as sync
),
counted as materialized (
    select a.account, own.orders
    from unnest($1::text[]) as a(account)
    cross join lateral (
        select count(*) as orders
        from (
            select
            from cuadre.orders as o
            where o.account = a.account
            order by o.updated_at desc, o.order_id desc  -- as the index: it is read no further
            limit $2::bigint + 1
        ) as latest
    ) as own
),
many as materialized (
    select o.account, count(*) * 100 / (select orders from shares) as orders
    from cuadre.orders as o tablesample system ((
        select case when exists (select from counted where orders > $2::bigint) then orders else 0 end from shares
    ))
    where o.account = any($1::text[])
    group by o.account
),
gone as materialized (
    select s.account, count(*) * 100 / (select sync from shares) as orders
    from cuadre.sync as s tablesample system ((select sync from shares))
    where s.trust = 2 and s.account = any($1::text[])
      -- One by one: as a join, all orders may be read for it.
      and (select o.order_id from cuadre.orders as o where o.order_id = s.order_id) is null
    group by s.account
)
select
    c.account,
    round(
        case when c.orders > $2::bigint then greatest(c.orders, coalesce(m.orders, 0)) else c.orders end
        + coalesce(g.orders, 0)
    )::bigint as orders
from counted as c
left join many as m using (account)
left join gone as g using (account);

-- name: open_drifts
-- Orders (of account `$3`, or of all) that a run of the last 30 days found to differ, and that no run found equal or
-- repaired since. `$1` are the fields that are no difference.
select distinct d.order_id
from cuadre.verifications as v
join cuadre.drifts as d on d.verification_id = v.verification_id
where v.moved_at > now() - interval '30 days'
  and d.field <> all($1::text[])
  and d.repaired_at is null
  and ($3::text is null or d.account = $3)
  and not exists (
      select from cuadre.drifts as later
      where later.order_id = d.order_id
        and (later.field = 'equal' and later.found_at > d.found_at or later.repaired_at > d.found_at)
  )
order by d.order_id
limit $2;

-- name: read_finished
-- When each of these accounts (null: each that had a nightly run) was last compared, by its own nightly run or by one of
-- all accounts, with at least half of the orders answered in; before its first nightly run ends, when that began, so
-- that one that never ends is seen. Told is the account for which that is longest ago. And how many orders were not
-- answered for: of the last run of all accounts, or of each account's last nightly one, whichever ended later.
with runs as (
    select kind, account, started_at, finished_at, checked, unanswered
    from cuadre.verifications
    where kind = 'nightly' and ($1::text[] is null or account is null or account = any($1::text[]))
       or kind = 'full' and account is null
),
by_account as (
    select
        account,
        coalesce(max(finished_at) filter (where 2 * unanswered <= checked), min(started_at)) as compared_at,
        (array_agg(unanswered order by finished_at desc) filter (where finished_at is not null))[1] as unanswered,
        max(finished_at) as finished_at
    from runs
    where account is not null
    group by account
),
of_all as (
    select
        coalesce(
            max(finished_at) filter (where 2 * unanswered <= checked), min(started_at) filter (where kind = 'nightly')
        ) as compared_at,
        (array_agg(unanswered order by finished_at desc) filter (where finished_at is not null))[1] as unanswered,
        max(finished_at) as finished_at
    from runs
    where account is null
)
select
    extract(epoch from greatest((select compared_at from of_all), (select min(compared_at) from by_account)))
        ::double precision as finished,
    case
        when (select max(finished_at) from by_account) > coalesce((select finished_at from of_all), '-infinity')
            then (select sum(unanswered) from by_account)
        else (select unanswered from of_all)
    end as unanswered;

-- name: read_unverified_share
-- By account: the share of the last hour's order notifications whose signature did not match, of those whose signature
-- was looked at. Bounded by rows, because this is read often: the latest 5,000 notifications at most.
select account, avg(case when verified then 0 else 1 end)::double precision as share
from (
    select account, verified, verification, topic, simulation, received_at
    from cuadre.notifications
    where period >= cuadre.period_of(now() - interval '1 hour')
    order by id desc
    limit 5000
) as latest
where received_at >= now() - interval '1 hour' and topic = 'order' and verification <> 'not_checked'
  and not simulation
group by account;

-- name: list_verifications
-- One page of comparisons, latest first.
select
    verification_id, kind, account, repair, since, started_at, moved_at, finished_at, to_check, checked, equal, drifted,
    repaired, unanswered, checked - equal - drifted - unanswered as unprovable
from cuadre.verifications
where true
    and kind = :kind  -- if kind
    and account = :account  -- if account
    and verification_id < :after_id  -- if after_id
    and verification_id = :id  -- if id
order by verification_id desc
limit :row_limit;
