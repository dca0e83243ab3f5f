-- Looking again because of notifications that were recorded. Which ones: `$1` and `$2` a range of time, `$3` numbers, `$4`
-- a topic, `$5` an account, each null where it does not matter; `$6` a state.

-- name: count_replay
-- What was asked for, in groups that are routed alike.
select
    n.account, n.path, n.body ->> 'user_id' as user_id, n.body ->> 'application_id' as application_id, n.topic,
    n.order_id is not null as has_order, count(*) as notifications
from cuadre.notifications as n
where n.period >= coalesce(cuadre.period_of($1::timestamptz - interval '1 day'), '-infinity'::date)
  and n.period <= coalesce(cuadre.period_of($2::timestamptz), 'infinity'::date)
  and n.last_received_at >= coalesce($1::timestamptz, '-infinity') and n.received_at < coalesce($2, 'infinity')
  and n.id between coalesce((select min(x) from unnest($3::bigint[]) as x), 0)
      and coalesce((select max(x) from unnest($3::bigint[]) as x), 9223372036854775807)
  and ($3::bigint[] is null or n.id = any($3::bigint[]))
  and ($4::text is null or n.topic = $4)
  and ($5::text is null or n.account = $5)
  and case $6::text
      when 'recorded' then not n.refused
      when 'verified' then n.verified
      when 'unverified' then not n.verified and not n.refused
      when 'refused' then n.refused
      when 'quarantined' then exists (
          select from cuadre.sync as s where s.order_id = n.order_id and s.quarantined_at is not null
      )
      when 'unserved' then exists (
          select from cuadre.sync as s where s.order_id = n.order_id and s.fetched < s.requested
      )
      when 'unstored' then n.order_id is not null and not exists (
          select from cuadre.orders as o where o.order_id = n.order_id
      )
  end
group by 1, 2, 3, 4, 5, 6;

-- name: next_replay_orders
-- The next orders (after `$7`, `$8` of them), each once: whose it is, whether anybody trusted spoke of it, and the
-- latest notification. Groups that are routed elsewhere now (`$9` to `$12`) are left out.
select
    n.order_id,
    (array_agg(n.account order by n.verified desc, n.id desc))[1] as account,
    bool_or(n.verified) as verified,
    max(n.id) as notification_id
from cuadre.notifications as n
where n.period >= coalesce(cuadre.period_of($1::timestamptz - interval '1 day'), '-infinity'::date)
  and n.period <= coalesce(cuadre.period_of($2::timestamptz), 'infinity'::date)
  and n.last_received_at >= coalesce($1::timestamptz, '-infinity') and n.received_at < coalesce($2, 'infinity')
  and n.id between coalesce((select min(x) from unnest($3::bigint[]) as x), 0)
      and coalesce((select max(x) from unnest($3::bigint[]) as x), 9223372036854775807)
  and ($3::bigint[] is null or n.id = any($3::bigint[]))
  and ($4::text is null or n.topic = $4)
  and ($5::text is null or n.account = $5)
  and case $6::text
      when 'recorded' then not n.refused
      when 'verified' then n.verified
      when 'unverified' then not n.verified and not n.refused
      when 'refused' then n.refused
      when 'quarantined' then exists (
          select from cuadre.sync as s where s.order_id = n.order_id and s.quarantined_at is not null
      )
      when 'unserved' then exists (
          select from cuadre.sync as s where s.order_id = n.order_id and s.fetched < s.requested
      )
      when 'unstored' then n.order_id is not null and not exists (
          select from cuadre.orders as o where o.order_id = n.order_id
      )
  end
  and n.order_id > $7
  and not exists (
      select from unnest($9::text[], $10::text[], $11::text[], $12::text[])
          as lost(account, path, user_id, application_id)
      where lost.account = n.account and lost.path = n.path
        and lost.user_id is not distinct from n.body ->> 'user_id'
        and lost.application_id is not distinct from n.body ->> 'application_id'
  )
group by n.order_id
order by n.order_id
limit $8;

-- name: mark_replayed
-- Marks a batch of orders due. Trusted like the notifications that spoke of them, so that a replayed flood of forged
-- ones still waits among strangers. Spread over time (`$5` seconds from now), so that what is told now does not wait
-- behind what was told long ago. An order that an earlier replay marked and nobody has looked at yet is left as it is.
insert into cuadre.sync as s (
    order_id, account, trust, requested, requested_trusted, due_at, cause, notification_id, marked_at
)
select
    order_id, account, verified::integer, 1, verified::integer, now() + make_interval(secs => wait_seconds), 'replay',
    notification_id, now()
from unnest($1::text[], $2::text[], $3::boolean[], $4::bigint[], $5::double precision[])
    as r(order_id, account, verified, notification_id, wait_seconds)
order by order_id
on conflict (order_id) do update set
    account = case when s.trust < 2 and excluded.trust > s.trust then excluded.account else s.account end,
    trust = greatest(s.trust, excluded.trust),
    requested = s.requested + 1,
    requested_trusted = case when greatest(s.trust, excluded.trust) > 0 then s.requested + 1 else s.requested_trusted end,
    due_at = least(s.due_at, excluded.due_at),
    cause = 'replay',
    notification_id = excluded.notification_id,
    marked_at = now()
where s.cause is distinct from 'replay' or s.fetched >= s.requested or s.quarantined_at is not null
returning order_id;
