-- What commands read beyond the API's queries. Nothing here writes.

-- name: read_standing
-- Whose an order is and which version of it is stored: before and after a look.
select
    coalesce(o.account, s.account) as account, o.order_id is not null as stored, o.version, o.status, o.status_detail,
    o.total_amount, o.paid_amount, o.refunded_amount, o.currency, s.quarantined_at is not null as quarantined
from (select $1::text as order_id) as wanted
left join cuadre.orders as o on o.order_id = wanted.order_id
left join cuadre.sync as s on s.order_id = wanted.order_id;

-- name: read_unreadable_payload
-- The answer that could not be read as an order, as it was kept for the quarantine.
select reason, body, seen_at from cuadre.unreadable_payloads where order_id = $1;

-- name: read_server
-- The server's version, whether it takes writes, and its clock.
select
    current_setting('server_version') as version,
    current_setting('server_version_num')::integer as version_number,
    not pg_is_in_recovery() and not current_setting('transaction_read_only')::boolean as writable;

-- name: read_clock
-- The database's clock, which stamps and schedules.
select clock_timestamp();

-- name: read_signature_checks
-- What became of the signatures of order notifications in the last seven days, per account and application. Rows lie
-- in months by the database's clock, hence the day of slack.
select
    account, coalesce(body ->> 'application_id', '') as application_id, verification, coalesce(manifest, '') as manifest,
    sum(copies)::bigint as deliveries
from cuadre.notifications
where period >= cuadre.period_of(now() - interval '8 days')
  and last_received_at >= now() - interval '7 days'
  and topic = 'order'
  and not simulation
group by 1, 2, 3, 4
order by 1, 2, 3, 4;

-- name: read_silence
-- Per account: when it was last told of an order, and how many orders changed without a word since then (at most a
-- month back, a few minutes of grace for looks that overtake their notification).
select
    a.account,
    told.last_at,
    (
        select count(distinct v.order_id)
        from cuadre.order_versions as v
        where v.account = a.account
          and v.period >= cuadre.period_of(now() - interval '31 days')
          and v.observed_at >= greatest(now() - interval '30 days', coalesce(told.last_at + interval '5 minutes', '-infinity'))
          and v.cause <> 'notification'
    ) as changed_since
from unnest($1::text[]) as a(account)
left join lateral (
    select n.last_received_at as last_at
    from cuadre.notifications as n
    where n.account = a.account and n.order_id is not null
      and n.period >= cuadre.period_of(now() - interval '31 days')
    order by n.id desc
    limit 1
) as told on true
order by a.account;

-- name: read_backlog
-- Per account: what is due, how long the oldest waits, what sits in quarantine.
select
    account,
    count(*) filter (where due_at <= now()) as due,
    coalesce(extract(epoch from now() - min(due_at) filter (where due_at <= now())), 0)::double precision
        as oldest_seconds,
    count(*) filter (where due_at is not null) as scheduled,
    count(*) filter (where quarantined_at is not null) as quarantined
from cuadre.sync
group by account
order by account;
