-- name: wait_for_claims
-- No command of the account is being claimed until the transaction ends (`lock_claims`): a claim that was under way is
-- seen by what follows, and one that comes after it sees what was written here. Who stands still meanwhile loses it
-- after 3 s, as there.
select set_config('idle_in_transaction_session_timeout', '3000', true),
    pg_advisory_xact_lock(hashtextextended('desk claims ' || $1::text, 0));

-- name: date_expiry
-- When what goes out now stops being payable: counted from the first attempt, which the claim has dated. The lease, if
-- it is still the caller's, and the attempt begin anew; tells whether nothing newer was asked of the legacy QR for the
-- point of sale, and whether a newer sale of either API may stand there.
update cuadre.commands as c set
    expires_at = maybe_sent_at + make_interval(secs => $3),
    leased_until = greatest(leased_until, clock_timestamp() + (leased_until - attempted_at)),
    attempted_at = clock_timestamp()
where command_id = $1 and lease_token = $2
returning expires_at, clock_timestamp() as now,
    exists (select from cuadre.newer_sales(c.account, c.point_of_sale, 'qr', c.asked_at, c.command_id)) as is_overtaken,
    not exists (
        select from cuadre.commands as later
        where later.account = c.account and later.point_of_sale = c.point_of_sale and later.asked_at > c.asked_at
          and later.kind in ('legacy_put', 'legacy_delete') and later.status not in ('withdrawn', 'refused')
    ) as is_newest;

-- name: let_newer_pass
-- A command that something newer waits for at its point of sale is due again in `$2` seconds at the latest.
update cuadre.commands as c set due_at = least(c.due_at, clock_timestamp() + make_interval(secs => $2))
where c.command_id = $1 and exists (
    select from cuadre.commands as later
    where later.account = c.account and later.point_of_sale = c.point_of_sale and later.asked_at > c.asked_at
      and later.kind in ('legacy_put', 'legacy_delete') and later.settled_at is null
);

-- name: may_be_scanned
-- Whether one of these stored merchant orders (`$1`, found under a sale's reference) may be the sale's that was put up
-- at `$3`: made since `$2`, as clocks may differ, and before `$3` not another put's own.
select exists (
    select from cuadre.orders as o
    where o.order_id = any($1::text[]) and coalesce(o.created_at >= $2, true)
      and (coalesce(o.created_at >= $3, true) or not exists (
          select from cuadre.commands as other
          where other.order_id = o.order_id and other.kind = 'legacy_put' and other.command_id <> $4
      ))
);

-- name: claim_watches
-- Takes up to `$2` due watches of these accounts under a lease of `$3` seconds, the longest due first.
update cuadre.commands as c set
    leased_until = now() + make_interval(secs => $3),
    lease_token = gen_random_uuid()
from (
    select command_id
    from cuadre.commands
    where due_at <= now() and kind = 'legacy_put' and status in ('done', 'refused') and account = any($1::text[])
      and (leased_until is null or leased_until <= now())
    order by due_at
    limit $2
    for update skip locked
) as due
where c.command_id = due.command_id
returning c.command_id, c.account, c.external_reference, c.order_id, c.maybe_sent_at, c.expires_at, c.lease_token,
    c.answer ->> 'id' as preference_id, clock_timestamp() as now;

-- name: mark_found_orders
-- Looks are owed to merchant orders that a search of the account `$1` showed (`$2`): those not stored yet, and those made
-- since `$3` that no money has reached in full. Trusted, because the account's own token found them. Tells how many
-- nobody here had heard of, and how many are not stored.
with found as (
    select f.order_id, o.order_id is null as is_unread
    from unnest($2::text[]) as f(order_id)
    left join cuadre.orders as o on o.order_id = f.order_id
    where o.order_id is null
       or (o.created_at >= $3 and o.status not in ('processed', 'refunded', 'charged_back'))
),
marked as (
    insert into cuadre.sync as s (order_id, account, trust, requested, requested_trusted, due_at, cause, marked_at)
    select order_id, $1, 1, 1, 1, now(), 'desk', now()
    from found
    order by order_id
    on conflict (order_id) do update set
        account = case when s.trust < 2 then excluded.account else s.account end,
        trust = greatest(s.trust, excluded.trust),
        requested = s.requested + 1,
        requested_trusted = s.requested + 1,
        due_at = least(s.due_at, now()),
        cause = 'desk',
        notification_id = null,
        marked_at = now()
    returning s.requested
)
select
    (select count(*) from marked where requested = 1) as unheard,
    (select count(*) from found where is_unread) as unread;

-- name: find_sale_order
-- The merchant order of the sale that was put up at `$4`, among those stored: the one that names its preference (V1),
-- else the paid one, else the latest; made since then, and before the same reference was put up again. Clocks may
-- differ, so it counts from `$3` on, unless an earlier put of the reference could be scanned then.
select o.order_id
from cuadre.orders as o
where o.account = $1 and o.external_reference = $2 and o.type = 'legacy_qr' and o.created_at >= $3
  and (o.created_at >= $4 or not exists (
      select from cuadre.commands as earlier
      where earlier.account = $1 and earlier.external_reference = $2 and earlier.kind = 'legacy_put'
        and earlier.maybe_sent_at < $4 and earlier.expires_at >= $3
  ))
  and o.created_at < coalesce((
      select min(again.maybe_sent_at)
      from cuadre.commands as again
      where again.account = $1 and again.external_reference = $2 and again.kind = 'legacy_put'
        and again.maybe_sent_at > $4
  ), 'infinity')
order by coalesce(o.payload #>> '{merchant_order,preference_id}' = $5::text, false) desc, o.paid_amount > 0 desc,
    o.created_at desc, o.order_id desc
limit 1;

-- name: settle_watch
-- What a watch found, and when the next one is owed (`$4`, null for no more). A lease that was lost settles nothing.
update cuadre.commands set
    order_id = coalesce($3, order_id),
    due_at = $4,
    last_error = $5,
    leased_until = null,
    lease_token = null
where command_id = $1 and lease_token = $2
returning command_id;

-- name: read_now
-- The clock that schedules: one for all replicas.
select clock_timestamp();

-- name: judge_sale_soon
-- The rules compare this order with what was asked for, and it is known now what that was: they are evaluated again.
update cuadre.orders set rules_due_at = least(rules_due_at, now()) where order_id = $1;
