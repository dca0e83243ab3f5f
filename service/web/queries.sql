-- What the internal API reads. A line that ends in `-- if NAME` stands only where NAME is given (see statements.py).

-- name: list_orders
-- One page of orders, newest change first; orders that the provider never dated come before all others.
select
    order_id, account, user_id, type, external_reference, description, status, status_detail, total_amount,
    paid_amount, refunded_amount, currency, country_code, created_at, updated_at, expires_at, fetched_at,
    first_seen_at, changed_at, version
from cuadre.orders
where true
    and account = :account  -- if account
    and account = any(array(                                                    -- if in_any_account
        -- A reference is indexed per account: hop from account to account.     -- if in_any_account
        with recursive known(name) as (                                         -- if in_any_account
            (select account from cuadre.orders order by account limit 1)        -- if in_any_account
            union all                                                           -- if in_any_account
            select (select o.account from cuadre.orders as o                    -- if in_any_account
                    where o.account > known.name order by o.account limit 1)    -- if in_any_account
            from known where known.name is not null                             -- if in_any_account
        )                                                                       -- if in_any_account
        select name from known where name is not null                           -- if in_any_account
    ))                                                                          -- if in_any_account
    and external_reference = :external_reference  -- if external_reference
    and status = :status  -- if status
    and type = :type  -- if type
    and updated_at >= :updated_since  -- if updated_since
    and (updated_at, order_id) < (:after_time, :after_id)  -- if after_time
    and (updated_at is not null or order_id < :after_undated_id)  -- if after_undated_id
order by updated_at desc, order_id desc
limit :row_limit;

-- name: read_order
-- One order as it is stored now.
select
    order_id, account, user_id, type, external_reference, description, status, status_detail, total_amount,
    paid_amount, refunded_amount, currency, country_code, created_at, updated_at, expires_at, fetched_at,
    first_seen_at, changed_at, version, payload_altered, payload::text as payload
from cuadre.orders
where order_id = $1;

-- name: read_payments
-- The payments of one order in the provider's order, those that vanished included.
select
    payment_id, order_id, status, status_detail, amount, paid_amount, refunded_amount, tip_amount, currency,
    method_id, method_type, installments, provider, reference_id, expires_at, first_seen_at, vanished_at
from cuadre.payments
where order_id = $1
order by position, payment_id;

-- name: read_refunds
-- The refunds of one order in the provider's order, those that vanished included.
select
    refund_id, order_id, payment_id, status, status_detail, amount, currency, reference_id, first_seen_at,
    vanished_at
from cuadre.refunds
where order_id = $1
order by position, refund_id;

-- name: read_chargebacks
-- The chargebacks of one order in the provider's order, those that vanished included.
select chargeback_id, order_id, payment_id, status, amount, currency, case_id, first_seen_at, vanished_at
from cuadre.chargebacks
where order_id = $1
order by position, chargeback_id;

-- name: read_cash_outs
-- The cash-outs of one order in the provider's order, those that vanished included.
select
    cash_out_id, order_id, status, status_detail, amount, currency, reference_id, first_seen_at, vanished_at
from cuadre.cash_outs
where order_id = $1
order by position, cash_out_id;

-- name: read_sync
-- Whether a look at one order is owed.
select
    order_id, account, trust, requested, fetched, due_at, leased_until, attempts, troubles, failing_since,
    last_error, quarantined_at, quarantine_reason, cause, notification_id
from cuadre.sync
where order_id = $1;

-- name: read_version_at
-- The version of one order that was stored at a time, when it had last been confirmed by then, and whose it was.
select
    v.order_id, v.account, v.version, v.type, v.status, v.status_detail, v.total_amount, v.paid_amount,
    v.refunded_amount, v.currency, v.updated_at, v.observed_at, v.payload::text as payload,
    greatest(v.observed_at, (
        select max(f.settled_at)
        from cuadre.fetches as f
        where f.order_id = $1 and f.settled_at <= $2 and f.outcome in ('applied', 'unchanged')
    )) as fetched_at,
    coalesce(o.first_seen_at, v.observed_at) as first_seen_at
from cuadre.order_versions as v
left join cuadre.orders as o on o.order_id = v.order_id
where v.order_id = $1 and v.observed_at <= $2
order by v.version desc
limit 1;

-- name: order_account
-- Whose order it is, where it is stored.
select account from cuadre.orders where order_id = $1;

-- name: read_open_discrepancies
-- What does not add up about one order now.
select
    id, order_id, account, rule, subject_id, severity, amount_at_stake, currency, expected, actual, explanation,
    opened_at, resolved_at, acknowledged_at, note
from cuadre.discrepancies
where order_id = $1 and resolved_at is null
order by id;

-- name: read_discrepancies_at
-- What did not add up about one order at a time.
select
    id, order_id, account, rule, subject_id, severity, amount_at_stake, currency, expected, actual, explanation,
    opened_at, resolved_at, acknowledged_at, note
from cuadre.discrepancies
where order_id = $1 and opened_at <= $2 and (resolved_at is null or resolved_at > $2)
order by id;

-- name: list_discrepancies
-- One page of discrepancies, latest first.
select
    id, order_id, account, rule, subject_id, severity, amount_at_stake, currency, expected, actual, explanation,
    opened_at, resolved_at, acknowledged_at, note
from cuadre.discrepancies
where true
    and resolved_at is null  -- if only_open
    and resolved_at is not null  -- if only_resolved
    and rule = :rule  -- if rule
    and account = :account  -- if account
    and order_id = :order_id  -- if order_id
    and id < :after_id  -- if after_id
order by id desc
limit :row_limit;

-- name: list_notifications
-- One page of notifications, latest first. Rows lie in months by the database's clock, hence the day of slack.
select
    id, account, topic, action, resource_id, order_id, verified, verification, manifest, secret_index,
    ts_age_seconds, body_id_differs, refused, simulation, received_at, last_received_at, copies, path, body_altered,
    query::text as query, headers::text as headers, body::text as body
from cuadre.notifications
where true
    and id = :id  -- if id
    and account = :account  -- if account
    and topic = :topic  -- if topic
    and resource_id = :resource_id  -- if resource_id
    and order_id = :order_id  -- if order_id
    and verified = :verified  -- if verified
    and received_at >= :since  -- if since
    and period >= cuadre.period_of(:since::timestamptz - interval '1 day')  -- if since
    and id < :after_id  -- if after_id
order by id desc
limit :row_limit;

-- name: list_quarantine
-- One page of the orders in quarantine, latest first.
select
    order_id, account, trust, requested, fetched, due_at, leased_until, attempts, troubles, failing_since,
    last_error, quarantined_at, quarantine_reason, cause, notification_id
from cuadre.sync
where quarantined_at is not null
    and account = :account  -- if account
    and quarantine_reason = :reason  -- if reason
    and (quarantined_at, order_id) < (:after_time, :after_id)  -- if after_time
order by quarantined_at desc, order_id desc
limit :row_limit;

-- name: timeline_notifications
-- The latest notifications that speak of one order, whether or not they marked it due.
select
    id, account, topic, action, resource_id, order_id, verified, verification, manifest, refused, simulation,
    body_id_differs, received_at, last_received_at, copies
from (
    (
        select * from cuadre.notifications where resource_id = $1 order by id desc limit $2
    )
    union all
    (
        select * from cuadre.notifications
        where order_id = $1 and resource_id is distinct from $1
        order by id desc limit $2
    )
) as n
order by id desc
limit $2;

-- name: timeline_fetches
-- The latest looks at one order.
select claimed_at, settled_at, cause, notification_id, outcome, detail, version
from cuadre.fetches
where order_id = $1
order by claimed_at desc
limit $2;

-- name: timeline_versions
-- The latest versions of one order, each with what it replaced.
select
    v.version, v.status, v.status_detail, v.total_amount, v.paid_amount, v.refunded_amount, v.currency, v.updated_at,
    v.observed_at, v.cause, v.notification_id, before.version as previous_version, before.status as previous_status,
    before.paid_amount as previous_paid_amount, before.refunded_amount as previous_refunded_amount
from (
    select * from cuadre.order_versions where order_id = $1 order by version desc limit $2
) as v
left join lateral (
    select b.version, b.status, b.paid_amount, b.refunded_amount
    from cuadre.order_versions as b
    where b.order_id = $1 and b.version = v.version - 1
    limit 1
) as before on true
order by v.version desc;

-- name: timeline_discrepancies
-- The latest discrepancies of one order.
select
    id, rule, subject_id, severity, amount_at_stake, currency, expected, actual, explanation, opened_at, resolved_at
from cuadre.discrepancies
where order_id = $1
order by id desc
limit $2;
