-- name: find_orders_of_payments
-- The stored orders of `/v1/orders` whose payments bear these numbers (`$2`, by account `$1`) in the Payments API: what
-- a notice of such a payment is about.
select distinct hint.account, hint.reference_id, o.order_id
from unnest($1::text[], $2::text[]) as hint(account, reference_id)
join cuadre.payments as p on p.reference_id = hint.reference_id
join cuadre.orders as o on o.order_id = p.order_id and o.account = hint.account
where p.vanished_at is null and o.type is distinct from 'legacy_qr';

-- name: mark_told_orders
-- Marks what payments told of (`$1`..`$5`, `$5` whether with trust), and locks the batch's own `sync` rows (`$6`)
-- with them: all in one sorted pass, because intake and other batches touch the same rows in that order.
with told as (
    select * from unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::boolean[])
        as t(order_id, account, cause, notification_id, trusted)
),
marks as (
    select
        order_id, (array_agg(account order by trusted desc, account))[1] as account, count(*) as marks,
        bool_or(trusted) as trusted, max(notification_id) as notification_id,
        (array_agg(cause order by notification_id desc nulls last, cause))[1] as cause
    from told
    group by order_id
),
touched as (
    select order_id, account, marks, trusted, cause, notification_id from marks
    union all
    select h.order_id, '', 0, false, null, null
    from unnest($6::text[]) as h(order_id)
    where not exists (select from told as t where t.order_id = h.order_id)
      and exists (select from cuadre.sync as s where s.order_id = h.order_id)
)
insert into cuadre.sync as s (
    order_id, account, trust, requested, requested_trusted, due_at, cause, notification_id, marked_at
)
select
    order_id, account, trusted::integer, marks, case when trusted then marks else 0 end, now(), cause,
    notification_id, now()
from touched
order by order_id
on conflict (order_id) do update set
    account = case when s.trust < 2 and excluded.trust > s.trust then excluded.account else s.account end,
    trust = greatest(s.trust, excluded.trust),
    requested = s.requested + excluded.requested,
    requested_trusted = case
        when excluded.trust > 0 then s.requested + excluded.requested else s.requested_trusted
    end,
    due_at = least(s.due_at, case
        when excluded.trust > 0 or s.claimed_at is null then now()
        else greatest(now(), s.claimed_at + interval '1 second')
    end),
    cause = excluded.cause,
    notification_id = excluded.notification_id,
    marked_at = now()
-- Rows that bear no mark are locked, not changed.
where excluded.requested > 0;
