-- name: count_orders
-- How many orders of this run are stored.
select count(*) from cuadre.orders where account = $1;

-- name: read_times
-- The provider's time of what is stored of some orders, as the provider wrote it.
select order_id, payload ->> 'last_updated_date' as last_updated_date
from cuadre.orders
where order_id = any($1::text[]);

-- name: read_orders
-- Everything of this run's orders that is compared with the provider's books.
select
    o.order_id, o.type, o.status, o.status_detail, o.external_reference, o.total_amount, o.paid_amount,
    o.refunded_amount, o.payload::text as payload
from cuadre.orders as o
where o.account = $1;

-- name: read_payments
-- The payments of this run's orders that the provider still shows.
select p.order_id, p.payment_id, p.status, p.amount, p.paid_amount, p.refunded_amount
from cuadre.payments as p
inner join cuadre.orders as o on o.order_id = p.order_id
where o.account = $1 and p.vanished_at is null;

-- name: read_refunds
-- The refunds of this run's orders that the provider still shows.
select r.order_id, r.refund_id, r.payment_id, r.status, r.amount
from cuadre.refunds as r
inner join cuadre.orders as o on o.order_id = r.order_id
where o.account = $1 and r.vanished_at is null;

-- name: read_caught_up
-- Orders of this run for which no look is owed on account of a notification.
select order_id from cuadre.sync where account = $1 and fetched >= requested and leased_until is null;

-- name: bring_forward
-- Lets the next look at some orders happen now, where one is owed at all; tells when it would have been.
with owed as (
    select s.order_id, s.due_at - clock_timestamp() as ahead
    from cuadre.sync as s
    where s.account = $1 and s.order_id = any($2::text[]) and s.due_at is not null and s.leased_until is null
    order by s.order_id
    for update
)
update cuadre.sync as s set due_at = clock_timestamp()
from owed
where s.order_id = owed.order_id
returning s.order_id, owed.ahead;

-- name: retire_earlier_runs
-- The provider of an earlier run is gone, and its orders are kept as they are: no look is owed to them any more.
update cuadre.sync set due_at = null where account <> $1 and account like 'demo-%' and due_at is not null;

-- name: read_discrepancies
-- What does not add up in this run, and what did not for a while.
select order_id, rule, subject_id, explanation, resolved_at is not null as resolved
from cuadre.discrepancies
where account = $1
order by order_id, id;

-- name: read_deliveries
-- Deliveries recorded in this run, by what their signature was found to be.
select verification, sum(copies)::bigint as deliveries from cuadre.notifications where account = $1 group by verification;
