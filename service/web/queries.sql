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

-- name: read_order_at
-- The stored order as a version of itself, where it was stored like this at a time already: what is left to answer with
-- once retention dropped its last version.
select
    o.order_id, o.account, o.version, o.type, o.status, o.status_detail, o.total_amount, o.paid_amount,
    o.refunded_amount, o.currency, o.updated_at, o.changed_at as observed_at, o.payload::text as payload,
    greatest(o.changed_at, (
        select max(f.settled_at)
        from cuadre.fetches as f
        where f.order_id = $1 and f.settled_at <= $2 and f.outcome in ('applied', 'unchanged')
    )) as fetched_at,
    o.first_seen_at
from cuadre.orders as o
where o.order_id = $1 and o.changed_at <= $2;

-- name: was_stored_at
-- Whether one order was stored at a time, whatever became of the version of that time.
select exists (select from cuadre.orders where order_id = $1 and first_seen_at <= $2);

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
    and verification = :verification  -- if verification
    and action = :action  -- if action
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

-- name: read_command
-- One command, and the provider's answer that decided it.
select
    command_id, account, idempotency_key, asked_by, asked_at, kind, type, order_id, external_reference, point_of_sale,
    payment_id, amount, currency, reserved::text as reserved, status, attempts, maybe_sent_at, attempted_at,
    valid_until, accepted_at, settled_at, provider_status, provider_code, message, refund_ids, last_error, expires_at,
    due_at, answer::text as answer
from cuadre.commands
where command_id = $1;

-- name: read_creation
-- Whose order a command made here: for an order that no look has stored yet.
select account from cuadre.commands where order_id = $1 and kind = 'create' order by asked_at limit 1;

-- name: list_commands
-- One page of commands, latest first.
select
    command_id, account, idempotency_key, asked_by, asked_at, kind, type, order_id, external_reference, point_of_sale,
    payment_id, amount, currency, reserved::text as reserved, status, attempts, maybe_sent_at, attempted_at,
    valid_until, accepted_at, settled_at, provider_status, provider_code, message, refund_ids, last_error, expires_at,
    due_at
from cuadre.commands
where true
    and settled_at is null  -- if only_open
    and account = :account  -- if account
    and status = :status  -- if status
    and kind = :kind  -- if kind
    and order_id = :order_id  -- if order_id
    and (asked_at, command_id) < (:after_time, :after_id)  -- if after_time
order by asked_at desc, command_id desc
limit :row_limit;

-- name: read_refunds_made
-- The refunds that a command made, as far as they never change.
select refund_id, order_id, payment_id, amount, currency
from cuadre.refunds
where order_id = $1 and refund_id = any($2::text[])
order by position, refund_id;

-- name: list_open_orders_by_point_of_sale
-- What is open on printed QRs and terminals. The expression and the statuses are those of the index.
select
    o.account,
    coalesce(o.payload #>> '{config,qr,external_pos_id}', o.payload #>> '{config,point,terminal_id}') as point_of_sale,
    o.order_id, o.type, o.status, coalesce(o.total_amount, paid.amount) as amount, o.currency, o.external_reference,
    coalesce(o.created_at, o.first_seen_at) as since, o.expires_at,
    extract(epoch from now() - coalesce(o.created_at, o.first_seen_at))::double precision as age_seconds,
    coalesce(o.expires_at <= now(), false) as is_over
from cuadre.orders as o
left join lateral (
    -- An order of a terminal states no total.
    select sum(p.amount) as amount from cuadre.payments as p where p.order_id = o.order_id and p.vanished_at is null
) as paid on o.total_amount is null
where o.status in ('created', 'at_terminal', 'processing', 'action_required')
    and coalesce(o.payload #>> '{config,qr,external_pos_id}', o.payload #>> '{config,point,terminal_id}') is not null
    and o.account = :account  -- if account
    and coalesce(o.payload #>> '{config,qr,external_pos_id}', o.payload #>> '{config,point,terminal_id}') = :point_of_sale  -- if point_of_sale
order by
    o.account, coalesce(o.payload #>> '{config,qr,external_pos_id}', o.payload #>> '{config,point,terminal_id}')
limit :row_limit;

-- name: list_live_legacy_sales
-- What the desk has put on printed QRs by the legacy model: the latest put or deletion of each that took effect, where
-- that is a put whose time is not over and whose sale is not paid. Nothing lives longer than :longest_seconds.
select
    latest.account, latest.point_of_sale, latest.command_id, latest.amount, latest.currency, latest.external_reference,
    latest.settled_at as since, latest.expires_at, known.order_id, known.status,
    extract(epoch from now() - latest.settled_at)::double precision as age_seconds
from (
    select distinct on (c.account, c.point_of_sale)
        c.account, c.point_of_sale, c.kind, c.command_id, c.amount, c.currency, c.external_reference, c.asked_at,
        c.settled_at, c.expires_at
    from cuadre.commands as c
    where c.kind in ('legacy_put', 'legacy_delete') and c.status = 'done'
        and c.asked_at > now() - make_interval(secs => :longest_seconds)
        and c.point_of_sale is not null
        and c.account = :account  -- if account
        and c.point_of_sale = :point_of_sale  -- if point_of_sale
    order by c.account, c.point_of_sale, c.settled_at desc, c.command_id desc
) as latest
left join lateral (
    -- The sale as the provider shows it, from the buyer's scan on.
    select o.order_id, o.status, o.paid_amount
    from cuadre.orders as o
    where o.account = latest.account and o.external_reference = latest.external_reference
        and o.type = 'legacy_qr' and o.first_seen_at >= latest.asked_at
    order by o.paid_amount desc, o.first_seen_at desc
    limit 1
) as known on true
where latest.kind = 'legacy_put' and latest.expires_at > now() and coalesce(known.paid_amount, 0) = 0
order by latest.account, latest.point_of_sale
limit :row_limit;

-- name: list_commands_under_way_by_point_of_sale
-- What was asked for points of sale and has not come to an end.
select
    account, point_of_sale, command_id, kind, type, order_id, status, amount, currency, external_reference,
    asked_at as since, expires_at, extract(epoch from now() - asked_at)::double precision as age_seconds,
    status = 'waiting' and maybe_sent_at is null as is_unsent
from cuadre.commands
where settled_at is null
    and point_of_sale is not null and kind <> 'refund'
    and account = :account  -- if account
    and point_of_sale = :point_of_sale  -- if point_of_sale
order by asked_at
limit :row_limit;
