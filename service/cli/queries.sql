-- What commands read beyond the API's queries. Only `retry_quarantined` writes.

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
-- The server's version, whether it takes writes, and how long this session may stand still in a transaction (0: for ever).
select
    current_setting('server_version') as version,
    current_setting('server_version_num')::integer as version_number,
    not pg_is_in_recovery() and not current_setting('transaction_read_only')::boolean as writable,
    (
        select setting::float8 / 1000 from pg_settings where name = 'idle_in_transaction_session_timeout'
    ) as idle_in_transaction_seconds;

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
-- Per account: what is due of known orders and of strangers, how long the oldest waits, looks ahead, what sits in
-- quarantine.
select
    account,
    count(*) filter (where trust > 0 and due_at <= now()) as due,
    coalesce(extract(epoch from now() - min(due_at) filter (where trust > 0 and due_at <= now())), 0)::double precision
        as oldest_seconds,
    count(*) filter (where trust = 0 and due_at <= now()) as strangers_due,
    count(*) filter (where trust > 0 and due_at is not null) as scheduled,
    count(*) filter (where quarantined_at is not null) as quarantined
from cuadre.sync
group by account
order by account;

-- name: read_signature_statistics
-- How the signatures of notifications came out since `$1`, by account, application, result and the casing that matched,
-- in deliveries. Refused samples are counted apart: one a minute is kept of them, so they are no share of anything.
select
    account, coalesce(body ->> 'application_id', '') as application_id, verification, coalesce(manifest, '') as manifest,
    refused, sum(copies)::bigint as deliveries, max(last_received_at) as last_at, max(id) as latest
from cuadre.notifications
where period >= cuadre.period_of($1::timestamptz - interval '1 day')
  and last_received_at >= $1
  and ($2::text is null or account = $2)
group by 1, 2, 3, 4, 5
order by 1, 2, 5, 6 desc, 3, 4;

-- name: read_unverified
-- Notifications whose signature did not match, since `$1`, grouped by application, topic and reason; the latest of each
-- to look at.
select
    account, coalesce(body ->> 'application_id', '') as application_id, coalesce(topic, '') as topic, verification,
    refused, count(*) as notifications, sum(copies)::bigint as deliveries, count(distinct order_id) as orders,
    max(last_received_at) as last_at, max(id) as latest
from cuadre.notifications
where period >= cuadre.period_of($1::timestamptz - interval '1 day')
  and last_received_at >= $1
  and not verified
  and ($2::text is null or account = $2)
group by 1, 2, 3, 4, 5
order by deliveries desc, 1, 2, 3, 4, 5
limit $3;

-- name: read_looks
-- The latest looks at one order, newest first: what each brought.
select claimed_at, settled_at, cause, notification_id, outcome, detail, version
from cuadre.fetches
where order_id = $1
order by claimed_at desc
limit $2;

-- name: retry_quarantined
-- Marks orders in quarantine due, in the order of their ids, with all their chances again: an order that somebody asks
-- for anew counts its failures from one. `$1` null takes all of them, of account `$2` and reason `$3` where given, after
-- `$4`; those that only strangers spoke of then stay among strangers.
with picked as (
    select order_id
    from cuadre.sync
    where quarantined_at is not null
      and ($1::text[] is null or order_id = any($1::text[]))
      and ($2::text is null or account = $2)
      and ($3::text is null or quarantine_reason = $3)
      and order_id > $4
    order by order_id
    limit $5
    for update
)
update cuadre.sync as s set
    trust = case when $1::text[] is null then s.trust else greatest(s.trust, 1) end,
    requested = s.requested + 1,
    requested_trusted = case
        when s.trust > 0 or $1::text[] is not null then s.requested + 1 else s.requested_trusted
    end,
    due_at = least(s.due_at, now()),
    cause = 'operator',
    notification_id = null,
    marked_at = now()
from picked
where s.order_id = picked.order_id
returning s.order_id, s.account, s.quarantine_reason;
