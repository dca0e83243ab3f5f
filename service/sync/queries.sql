-- name: claim_due_orders
-- Takes up to `room` due orders per lane (account, known or stranger), `$5` in all, under a lease; the attempt is
-- counted here. The stamp `claimed_at` is the database's clock before any request is sent: the fence decides by it.
-- What somebody asked for comes before what only the schedule brings, which keeps a quarter of the places. Known orders
-- come oldest first; strangers newest first: a flood's many repeats then wait, and who is new is heard.
-- `lane.known` and not `false`: the planner turns the latter into `trust <= 0`, which no index leads to.
-- Each kind is locked up to the lane's room, and what is too much is let go at the end of the statement: no locking
-- part may look at another, because it is evaluated again on its own where a row has just changed.
with lanes as (
    select * from unnest($1::text[], $2::boolean[], $3::integer[]) with ordinality as l(account, known, room, turn)
),
known_asked as (
    select lane.*, true as asked, due.*
    from (select * from lanes where lanes.known order by turn) as lane
    cross join lateral (
        select s.order_id, s.leased_until is not null as had_lease, s.due_at
        from cuadre.sync as s
        where s.account = lane.account
          and (s.trust > 0) = true
          and s.asked = true
          and s.due_at <= now()
          and (s.leased_until is null or s.leased_until <= now())
        order by s.due_at
        limit lane.room
        for update of s skip locked
    ) as due
    limit $5
),
known_scheduled as (
    select lane.*, false as asked, due.*
    from (select * from lanes where lanes.known order by turn) as lane
    cross join lateral (
        select s.order_id, s.leased_until is not null as had_lease, s.due_at
        from cuadre.sync as s
        where s.account = lane.account
          and (s.trust > 0) = true
          and s.asked = false
          and s.due_at <= now()
          and (s.leased_until is null or s.leased_until <= now())
        order by s.due_at
        limit lane.room
        for update of s skip locked
    ) as due
    limit $5
),
strangers_asked as (
    select lane.*, true as asked, due.*
    from (select * from lanes where not lanes.known order by turn) as lane
    cross join lateral (
        select s.order_id, s.leased_until is not null as had_lease, s.due_at
        from cuadre.sync as s
        where s.account = lane.account
          and (s.trust > 0) = lane.known
          and s.asked = true
          and s.due_at <= now()
          and (s.leased_until is null or s.leased_until <= now())
        order by s.due_at desc
        limit lane.room
        for update of s skip locked
    ) as due
    limit $5
),
strangers_scheduled as (
    select lane.*, false as asked, due.*
    from (select * from lanes where not lanes.known order by turn) as lane
    cross join lateral (
        select s.order_id, s.leased_until is not null as had_lease, s.due_at
        from cuadre.sync as s
        where s.account = lane.account
          and (s.trust > 0) = lane.known
          and s.asked = false
          and s.due_at <= now()
          and (s.leased_until is null or s.leased_until <= now())
        order by s.due_at desc
        limit lane.room
        for update of s skip locked
    ) as due
    limit $5
),
candidates as (
    select * from known_asked
    union all
    select * from known_scheduled
    union all
    select * from strangers_asked
    union all
    select * from strangers_scheduled
),
queued as (
    select
        c.*,
        row_number() over (
            partition by turn, asked
            order by extract(epoch from due_at) * case when known then 1 else -1 end, order_id
        ) as own_place
    from candidates as c
),
ranked as (
    select
        q.*,
        -- Every fourth place or so is the schedule's, also where one order is claimed at a time.
        row_number() over (
            partition by turn order by case when asked then own_place else 4 * (own_place - random()) end, order_id
        ) as place
    from queued as q
),
picked as (
    select order_id, had_lease from ranked
    where place <= room
    order by known desc, place, turn
    limit $5
)
update cuadre.sync as s set
    leased_until = now() + make_interval(secs => $4),
    lease_token = gen_random_uuid(),
    claimed_at = greatest(clock_timestamp(), s.claimed_at + interval '1 microsecond'),
    attempts = s.attempts + 1,
    lost_leases = case when picked.had_lease then s.lost_leases + 1 else 0 end
from picked
where s.order_id = picked.order_id
returning
    s.order_id, s.account, s.trust, s.requested as generation, s.lease_token, s.claimed_at, s.attempts, s.troubles,
    s.lost_leases, s.failing_since, s.last_error, s.quarantined_at is not null as quarantined,
    coalesce(s.cause, 'look') as cause, s.notification_id,
    extract(epoch from s.claimed_at - s.due_at)::double precision as waited_seconds, s.marked_at;

-- name: claim_one_order
-- Takes one named order under a lease, due or not, unless somebody holds it.
update cuadre.sync as s set
    leased_until = now() + make_interval(secs => $2),
    lease_token = gen_random_uuid(),
    claimed_at = greatest(clock_timestamp(), s.claimed_at + interval '1 microsecond'),
    attempts = s.attempts + 1,
    lost_leases = 0
where s.order_id = $1 and (s.leased_until is null or s.leased_until <= now())
returning
    s.order_id, s.account, s.trust, s.requested as generation, s.lease_token, s.claimed_at, s.attempts, s.troubles,
    s.lost_leases, s.failing_since, s.last_error, s.quarantined_at is not null as quarantined,
    coalesce(s.cause, 'look') as cause, s.notification_id,
    greatest(0, extract(epoch from s.claimed_at - s.due_at))::double precision as waited_seconds, s.marked_at;

-- name: mark_order_due
-- An operator asks for a look now. Trusted like a verified notification; a stored order keeps its account.
insert into cuadre.sync as s (
    order_id, account, trust, requested, requested_trusted, due_at, cause, marked_at
)
values ($1, $2, 1, 1, 1, now(), 'operator', now())
on conflict (order_id) do update set
    account = case when s.trust < 2 then excluded.account else s.account end,
    trust = greatest(s.trust, excluded.trust),
    requested = s.requested + 1,
    requested_trusted = s.requested + 1,
    due_at = least(s.due_at, now()),
    cause = 'operator',
    notification_id = null,
    marked_at = now()
returning requested;

-- name: read_sync_row
-- Where one order stands: for whoever waits for another process to serve a mark.
select order_id, account, requested, fetched, due_at, leased_until, attempts, last_error, quarantined_at,
    quarantine_reason
from cuadre.sync
where order_id = $1;

-- name: release_claims
-- Gives claims back unserved (shutdown, settings changed): due again at once, the attempt not counted.
with given as (
    select * from unnest($1::text[], $2::uuid[]) as g(order_id, lease_token)
),
locked as (
    select s.order_id
    from cuadre.sync as s
    join given as g on g.order_id = s.order_id and g.lease_token = s.lease_token
    order by s.order_id
    for update of s
)
update cuadre.sync as s set
    leased_until = null,
    lease_token = null,
    attempts = greatest(0, s.attempts - 1),
    lost_leases = 0,
    due_at = least(s.due_at, now())
from locked
where s.order_id = locked.order_id;

-- name: read_witness
-- An order of the account that was read well, of the same system as `$2` (`$3`: the legacy one): where it is shown still
-- and `$2` is refused, the token is good. Among the fifty that are looked at next, so that few rows are read.
select order_id
from (
    select order_id, trust, last_error, due_at
    from cuadre.sync
    where account = $1 and (trust > 0) = true and asked = false and due_at is not null
    order by due_at
    limit 50
) as nearest
where trust = 2 and last_error is null and order_id <> $2 and (order_id like 'MO%') = $3
order by due_at
limit 1;

-- name: lock_keys
-- Serialises everything that touches these orders and references, in one global order (the keys come sorted).
-- Advisory, so that intake, which only touches `sync`, never waits for an apply. Tells the time after the last lock was
-- granted: what is written with it comes later than all that was written under the same locks before.
with locked as materialized (
    select pg_advisory_xact_lock(k) from unnest($1::bigint[]) as k
)
select clock_timestamp() as now from (select count(*) as locks from locked) as granted where granted.locks >= 0;

-- name: read_stored_orders
-- What is stored of these orders (a row each, empty where nothing is): the fence and the history; and, stored or not,
-- first sights of refunds, open discrepancies, and what was asked here of them. Payloads only of the orders in `$2`.
-- `has_parts`: an order that is not stored has payments that are, so its row was lost.
select
    wanted.order_id, o.account, o.type, o.external_reference, o.status, o.status_detail, o.currency, o.paid_amount,
    o.refunded_amount, o.is_sale, o.updated_at, o.payload_hash, o.history, o.version, o.claimed_at, o.first_seen_at,
    o.changed_at, o.rules_due_at,
    case when o.order_id = any($2::text[]) then o.payload end as payload,
    o.payer_erased_at is not null as payer_erased,
    -- `limit`: never answered by reading all payments into a hash, as `exists` may be.
    case when o.order_id is null then (
        select true from cuadre.payments as p where p.order_id = wanted.order_id limit 1
    ) end as has_parts,
    -- Old orders alone are read by their payments: the payloads of the others are left where they are.
    case
        when coalesce(o.created_at, o.first_seen_at) < now() - interval '80 days' then o.payload -> 'order_document_date'
    end as document_date,
    (
        select jsonb_object_agg(r.refund_id, r.first_seen_at)
        from cuadre.refunds as r
        where r.order_id = wanted.order_id
    ) as refund_first_seen,
    (
        select jsonb_agg(jsonb_build_object(
            'id', d.id, 'account', d.account, 'rule', d.rule, 'subject_id', d.subject_id, 'severity', d.severity,
            'amount_at_stake', d.amount_at_stake::text, 'currency', d.currency, 'expected', d.expected,
            'actual', d.actual, 'explanation', d.explanation
        ))
        from cuadre.discrepancies as d
        where d.order_id = wanted.order_id and d.resolved_at is null
    ) as open_discrepancies,
    (
        select jsonb_agg(jsonb_build_object(
            'command_id', c.command_id, 'kind', c.kind, 'status', c.status, 'asked_at', c.asked_at,
            'maybe_sent_at', c.maybe_sent_at, 'accepted_at', c.accepted_at, 'settled_at', c.settled_at,
            'payment_id', c.payment_id, 'amount', c.amount::text, 'currency', c.currency, 'reserved', c.reserved,
            'refund_ids', c.refund_ids
        ))
        from cuadre.commands as c
        where c.order_id = wanted.order_id
    ) as commands
from unnest($1::text[]) as wanted(order_id)
left join cuadre.orders as o on o.order_id = wanted.order_id;

-- name: read_last_versions
-- The last version's number of orders whose rows are lost, by all that tells of it: no number is given twice, also where
-- the versions themselves are gone. Probes every month that is kept, so new orders are not asked for.
select
    lost.order_id,
    coalesce(greatest(
        (select max(version) from cuadre.order_versions as v where v.order_id = lost.order_id),
        (select max(version) from cuadre.events as e where e.order_id = lost.order_id and e.type = 'order.changed'),
        (select max(version) from cuadre.fetches as f where f.order_id = lost.order_id)
    ), 0) as version
from unnest($1::text[]) as lost(order_id);

-- name: read_lost_versions
-- All that was ever stored of orders whose rows are lost, each first to last.
select order_id, observed_at, payload::text as payload
from cuadre.order_versions
where order_id = any($1::text[])
order by order_id, version, observed_at;

-- name: read_legacy_expiries
-- When what was put on a point of sale under these references stops being payable, by the latest command that may have
-- reached the provider: the merchant order of a legacy sale does not say it.
select w.account, w.external_reference, latest.expires_at
from unnest($1::text[], $2::text[]) as w(account, external_reference)
cross join lateral (
    select c.expires_at
    from cuadre.commands as c
    where c.account = w.account and c.external_reference = w.external_reference and c.kind = 'legacy_put'
      and c.expires_at is not null and c.status not in ('waiting', 'refused', 'withdrawn')
    order by c.asked_at desc, c.command_id desc
    limit 1
) as latest;

-- name: database_now
-- The clock that stamps and schedules: one for all replicas.
select now();

-- name: write_orders
-- Changed orders with all their parts, and one version and one `order.changed` event each, set-based. `$1` orders, `$2` payments, `$3` refunds,
-- `$4` chargebacks, `$5` cash-outs, each a JSON array; payloads travel apart (`$6` ids, `$7` texts) to be stored as
-- they came. A part that the answer no longer shows stays, marked vanished.
with incoming as (
    select r.*, p.payload
    from jsonb_to_recordset($1::jsonb) as r(
        order_id text, account text, user_id text, type text, external_reference text, description text, status text,
        status_detail text, total_amount numeric, currency text, country_code text, paid_amount numeric,
        refunded_amount numeric, is_sale boolean, created_at timestamptz, updated_at timestamptz,
        expires_at timestamptz, payload_hash text, payload_altered boolean, history jsonb, version integer,
        claimed_at timestamptz, rules_due_at timestamptz, cause text, notification_id bigint, event jsonb
    )
    join unnest($6::text[], $7::text[]) as p(order_id, payload) on p.order_id = r.order_id
),
stored as (
    insert into cuadre.orders as o (
        order_id, account, user_id, type, external_reference, description, status, status_detail, total_amount,
        currency, country_code, paid_amount, refunded_amount, is_sale, created_at, updated_at, expires_at, payload,
        payload_hash, payload_altered, history, version, claimed_at, fetched_at, first_seen_at, changed_at,
        rules_due_at
    )
    select
        order_id, account, user_id, type, external_reference, description, status, status_detail, total_amount,
        currency, country_code, paid_amount, refunded_amount, is_sale, created_at, updated_at, expires_at,
        payload::jsonb, decode(payload_hash, 'hex'), payload_altered, history, version, claimed_at, $8::timestamptz, $8::timestamptz,
        $8::timestamptz, rules_due_at
    from incoming
    order by order_id
    on conflict (order_id) do update set
        account = excluded.account, user_id = excluded.user_id, type = excluded.type,
        external_reference = excluded.external_reference, description = excluded.description,
        status = excluded.status, status_detail = excluded.status_detail, total_amount = excluded.total_amount,
        currency = excluded.currency, country_code = excluded.country_code, paid_amount = excluded.paid_amount,
        refunded_amount = excluded.refunded_amount, is_sale = excluded.is_sale, created_at = excluded.created_at,
        updated_at = excluded.updated_at, expires_at = excluded.expires_at, payload = excluded.payload,
        payload_hash = excluded.payload_hash, payload_altered = excluded.payload_altered, history = excluded.history,
        version = excluded.version, claimed_at = excluded.claimed_at, fetched_at = excluded.fetched_at,
        changed_at = excluded.changed_at, rules_due_at = excluded.rules_due_at
),
versions as (
    insert into cuadre.order_versions (
        order_id, version, period, account, type, status, status_detail, total_amount, currency, paid_amount,
        refunded_amount, updated_at, claimed_at, observed_at, cause, notification_id, payload
    )
    select
        order_id, version, cuadre.period_of($8::timestamptz), account, type, status, status_detail, total_amount, currency,
        paid_amount, refunded_amount, updated_at, claimed_at, $8::timestamptz, cause, notification_id, payload::jsonb
    from incoming
),
announced as (
    insert into cuadre.events (period, order_id, account, type, version, data, recorded_at)
    select cuadre.period_of($8::timestamptz), order_id, account, 'order.changed', version, event, $8::timestamptz
    from incoming
    order by order_id
),
shown_payments as (
    select * from jsonb_to_recordset($2::jsonb) as r(
        order_id text, payment_id text, position integer, status text, status_detail text, amount numeric,
        paid_amount numeric, refunded_amount numeric, tip_amount numeric, currency text, method_id text,
        method_type text, installments integer, provider text, reference_id text, expires_at timestamptz
    )
),
stored_payments as (
    insert into cuadre.payments as p (
        order_id, payment_id, position, status, status_detail, amount, paid_amount, refunded_amount, tip_amount,
        currency, method_id, method_type, installments, provider, reference_id, expires_at, first_seen_at
    )
    select
        order_id, payment_id, position, status, status_detail, amount, paid_amount, refunded_amount, tip_amount,
        currency, method_id, method_type, installments, provider, reference_id, expires_at, $8::timestamptz
    from shown_payments
    order by order_id, payment_id
    on conflict (order_id, payment_id) do update set
        position = excluded.position, status = excluded.status, status_detail = excluded.status_detail,
        amount = excluded.amount, paid_amount = excluded.paid_amount, refunded_amount = excluded.refunded_amount,
        tip_amount = excluded.tip_amount, currency = excluded.currency, method_id = excluded.method_id,
        method_type = excluded.method_type, installments = excluded.installments, provider = excluded.provider,
        reference_id = excluded.reference_id, expires_at = excluded.expires_at, vanished_at = null
),
vanished_payments as (
    update cuadre.payments as p set vanished_at = $8::timestamptz
    from incoming as i
    where p.order_id = i.order_id and p.vanished_at is null
      and not exists (
          select from shown_payments as s where s.order_id = p.order_id and s.payment_id = p.payment_id
      )
),
shown_refunds as (
    select * from jsonb_to_recordset($3::jsonb) as r(
        order_id text, refund_id text, position integer, payment_id text, status text, status_detail text,
        amount numeric, currency text, reference_id text
    )
),
stored_refunds as (
    insert into cuadre.refunds as p (
        order_id, refund_id, position, payment_id, status, status_detail, amount, currency, reference_id,
        first_seen_at
    )
    select
        order_id, refund_id, position, payment_id, status, status_detail, amount, currency, reference_id, $8::timestamptz
    from shown_refunds
    order by order_id, refund_id
    on conflict (order_id, refund_id) do update set
        position = excluded.position, payment_id = excluded.payment_id, status = excluded.status,
        status_detail = excluded.status_detail, amount = excluded.amount, currency = excluded.currency,
        reference_id = excluded.reference_id, vanished_at = null
),
vanished_refunds as (
    update cuadre.refunds as p set vanished_at = $8::timestamptz
    from incoming as i
    where p.order_id = i.order_id and p.vanished_at is null
      and not exists (select from shown_refunds as s where s.order_id = p.order_id and s.refund_id = p.refund_id)
),
shown_chargebacks as (
    select * from jsonb_to_recordset($4::jsonb) as r(
        order_id text, chargeback_id text, position integer, payment_id text, status text, amount numeric,
        currency text, case_id text
    )
),
stored_chargebacks as (
    insert into cuadre.chargebacks as p (
        order_id, chargeback_id, position, payment_id, status, amount, currency, case_id, first_seen_at
    )
    select order_id, chargeback_id, position, payment_id, status, amount, currency, case_id, $8::timestamptz
    from shown_chargebacks
    order by order_id, chargeback_id
    on conflict (order_id, chargeback_id) do update set
        position = excluded.position, payment_id = excluded.payment_id, status = excluded.status,
        amount = excluded.amount, currency = excluded.currency, case_id = excluded.case_id, vanished_at = null
),
vanished_chargebacks as (
    update cuadre.chargebacks as p set vanished_at = $8::timestamptz
    from incoming as i
    where p.order_id = i.order_id and p.vanished_at is null
      and not exists (
          select from shown_chargebacks as s
          where s.order_id = p.order_id and s.chargeback_id = p.chargeback_id
      )
),
shown_cash_outs as (
    select * from jsonb_to_recordset($5::jsonb) as r(
        order_id text, cash_out_id text, position integer, status text, status_detail text, amount numeric,
        currency text, reference_id text
    )
),
stored_cash_outs as (
    insert into cuadre.cash_outs as p (
        order_id, cash_out_id, position, status, status_detail, amount, currency, reference_id, first_seen_at
    )
    select order_id, cash_out_id, position, status, status_detail, amount, currency, reference_id, $8::timestamptz
    from shown_cash_outs
    order by order_id, cash_out_id
    on conflict (order_id, cash_out_id) do update set
        position = excluded.position, status = excluded.status, status_detail = excluded.status_detail,
        amount = excluded.amount, currency = excluded.currency, reference_id = excluded.reference_id,
        vanished_at = null
)
update cuadre.cash_outs as p set vanished_at = $8::timestamptz
from incoming as i
where p.order_id = i.order_id and p.vanished_at is null
  and not exists (select from shown_cash_outs as s where s.order_id = p.order_id and s.cash_out_id = p.cash_out_id);

-- name: refresh_orders
-- Looked at again and found unchanged (or re-evaluated as stored): the fence moves on, no version is made.
with seen as (
    select * from unnest($1::text[], $2::timestamptz[], $3::timestamptz[], $4::timestamptz[])
        as s(order_id, updated_at, claimed_at, rules_due_at)
),
locked as (
    select o.order_id
    from cuadre.orders as o
    where o.order_id = any($1::text[])
    order by o.order_id
    for update
)
update cuadre.orders as o set
    updated_at = coalesce(seen.updated_at, o.updated_at),
    claimed_at = coalesce(seen.claimed_at, o.claimed_at),
    fetched_at = case when seen.claimed_at is null then o.fetched_at else $5::timestamptz end,
    rules_due_at = seen.rules_due_at
from seen
join locked on locked.order_id = seen.order_id
where o.order_id = seen.order_id;

-- name: read_sale_heads
-- The two earliest sales of each reference, and the open `duplicate_sale` discrepancies that stand on them or on the
-- batch's orders (`$3`), and one that names each of these as the earliest: enough to know, without reading a whole
-- group, who is the duplicate and whether the group has to be read.
with heads as materialized (
    select k.account, k.external_reference, h.order_id, h.created_at, h.amount, h.currency
    from unnest($1::text[], $2::text[]) as k(account, external_reference)
    cross join lateral (
        select o.order_id, o.created_at, o.paid_amount - o.refunded_amount as amount, o.currency
        from cuadre.orders as o
        where o.account = k.account and o.external_reference = k.external_reference and o.is_sale
          and o.external_reference <> ''
        order by o.created_at, o.order_id
        limit 2
    ) as h
),
involved as materialized (
    select order_id from heads
    union
    select unnest($3::text[])
)
select 'sale' as kind, account, external_reference, order_id, created_at, amount, currency, null::bigint as id,
    null::text as subject_id, null::text as severity, null::text as expected, null::text as actual,
    null::text as explanation
from heads
union all
select distinct 'open', d.account, null, d.order_id, null::timestamptz, d.amount_at_stake, d.currency, d.id,
    d.subject_id, d.severity, d.expected, d.actual, d.explanation
from involved as i
cross join lateral (
    select * from cuadre.discrepancies as one
    where one.order_id = i.order_id and one.rule = 'duplicate_sale' and one.resolved_at is null
    union all
    (
        select * from cuadre.discrepancies as one
        where one.subject_id = i.order_id and one.rule = 'duplicate_sale' and one.resolved_at is null
        limit 1
    )
) as d
order by 1 desc, 2, 3, 5, 4;

-- name: read_duplicates_open
-- Open `duplicate_sale` discrepancies that stand on these orders or name one of them as the earliest.
select d.id, d.order_id, d.account, d.subject_id, d.severity, d.amount_at_stake as amount, d.currency, d.expected,
    d.actual, d.explanation
from cuadre.discrepancies as d
where d.resolved_at is null and d.rule = 'duplicate_sale'
  and (d.order_id = any($1::text[]) or d.subject_id = any($1::text[]));

-- name: read_sale_group
-- Every sale of one reference: read whole only when its earliest sale has changed.
select o.order_id, o.created_at, o.paid_amount - o.refunded_amount as amount, o.currency
from cuadre.orders as o
where o.account = $1 and o.external_reference = $2 and o.is_sale and o.external_reference <> ''
order by o.created_at, o.order_id;

-- name: change_discrepancies
-- Opens, refreshes and resolves discrepancies, and records an event for each opened or resolved one, in one commit
-- with what caused it.
with changes as (
    select * from jsonb_to_recordset($1::jsonb) as r(
        change text, id bigint, order_id text, account text, rule text, subject_id text, severity text,
        amount_at_stake numeric, currency text, expected text, actual text, explanation text, version integer
    )
),
resolved as (
    update cuadre.discrepancies as d set resolved_at = $2::timestamptz, refreshed_at = $2::timestamptz
    from changes as c
    where c.change = 'resolved' and d.order_id = c.order_id and d.id = c.id and d.resolved_at is null
    returning d.id, d.order_id, d.account, d.rule, d.subject_id, d.severity, d.amount_at_stake, d.currency,
        d.expected, d.actual, d.explanation, c.version, 'discrepancy.resolved' as type
),
refreshed as (
    update cuadre.discrepancies as d set
        severity = c.severity, amount_at_stake = c.amount_at_stake, currency = c.currency, expected = c.expected,
        actual = c.actual, explanation = c.explanation, refreshed_at = $2::timestamptz
    from changes as c
    where c.change = 'refreshed' and d.order_id = c.order_id and d.id = c.id
),
opened as (
    insert into cuadre.discrepancies (
        order_id, account, rule, subject_id, severity, amount_at_stake, currency, expected, actual, explanation,
        opened_at, refreshed_at
    )
    select order_id, account, rule, subject_id, severity, amount_at_stake, currency, expected, actual, explanation,
        $2::timestamptz, $2::timestamptz
    from changes
    where change = 'opened'
    order by order_id, rule, subject_id
    returning id, order_id, account, rule, subject_id, severity, amount_at_stake, currency, expected, actual,
        explanation
),
announced as (
    select id, order_id, account, rule, subject_id, severity, amount_at_stake, currency, expected, actual,
        explanation, version, type
    from resolved
    union all
    select o.id, o.order_id, o.account, o.rule, o.subject_id, o.severity, o.amount_at_stake, o.currency, o.expected,
        o.actual, o.explanation, c.version, 'discrepancy.opened'
    from opened as o
    join changes as c on c.change = 'opened' and c.order_id = o.order_id and c.rule = o.rule
        and c.subject_id = o.subject_id
)
insert into cuadre.events (period, order_id, account, type, version, data, recorded_at)
select
    cuadre.period_of($2::timestamptz), order_id, account, type, version,
    jsonb_build_object(
        'discrepancy_id', id, 'order_id', order_id, 'account', account, 'rule', rule, 'subject_id', subject_id,
        'severity', severity, 'amount_at_stake', amount_at_stake::text, 'currency', currency, 'expected', expected,
        'actual', actual, 'explanation', explanation
    ),
    $2::timestamptz
from announced
order by order_id, id;

-- name: settle_claims
-- What became of each claim, on its `sync` row and in the fetch log. A lease that was lost settles nothing: whoever
-- holds it now will. The last statement of the transaction, so that intake waits on these rows for a commit only.
with outcomes as (
    select * from unnest(
        $1::text[], $2::uuid[], $3::bigint[], $4::timestamptz[], $5::timestamptz[], $6::integer[], $7::integer[],
        $8::timestamptz[], $9::text[], $10::text[], $11::boolean[], $12::boolean[], $13::text[], $14::text[],
        $15::integer[], $16::text[], $17::text[], $18::bigint[], $19::boolean[], $20::boolean[]
    ) as u(
        order_id, lease_token, generation, claimed_at, due_at, attempts, troubles, failing_since, last_error,
        quarantine_reason, caught_up, stored, outcome, detail, version, account, cause, notification_id,
        keeps_quarantine, answers_mark
    )
),
locked as (
    select s.order_id
    from cuadre.sync as s
    join outcomes as u on u.order_id = s.order_id and u.lease_token = s.lease_token
    order by s.order_id
    for update of s
),
settled as (
    update cuadre.sync as s set
        leased_until = null,
        lease_token = null,
        lost_leases = 0,
        trust = case when u.stored then 2 else s.trust end,
        account = case when u.stored then u.account else s.account end,
        fetched = case when u.caught_up then greatest(s.fetched, u.generation) else s.fetched end,
        -- A mark that came after the claim is owed a look that starts after it (invariant I2).
        due_at = case
            when u.caught_up and s.requested_trusted > u.generation then now()
            when u.caught_up and s.requested > u.generation
                then greatest(now(), s.claimed_at + interval '1 second')
            -- Nor does one that can be trusted wait until a look that failed is tried again.
            when s.requested_trusted > u.generation
                then least(u.due_at, greatest(now(), s.claimed_at + interval '1 second'))
            else u.due_at
        end,
        attempts = u.attempts,
        troubles = u.troubles,
        failing_since = u.failing_since,
        last_error = u.last_error,
        quarantined_at = case
            when u.quarantine_reason is not null then coalesce(s.quarantined_at, now())
            when u.keeps_quarantine then s.quarantined_at
        end,
        quarantine_reason = case when u.keeps_quarantine then s.quarantine_reason else u.quarantine_reason end,
        cause = case when u.caught_up and s.requested <= u.generation then null else s.cause end,
        notification_id = case when u.caught_up and s.requested <= u.generation then null else s.notification_id end,
        -- Kept while second looks are owed to it.
        marked_at = case when u.answers_mark and s.requested <= u.generation then null else s.marked_at end
    from outcomes as u
    join locked as l on l.order_id = u.order_id
    where s.order_id = u.order_id
    returning s.order_id
),
logged as (
    insert into cuadre.fetches (
        order_id, claimed_at, period, account, cause, notification_id, outcome, detail, version, settled_at
    )
    select
        order_id, claimed_at, cuadre.period_of(now()), account, cause, notification_id, outcome, detail, version,
        now()
    from outcomes
    on conflict (order_id, claimed_at, period) do nothing
)
select order_id from settled;

-- name: note_stored
-- Orders that were stored by a worker whose lease was lost: known from now on, whoever holds them.
update cuadre.sync as s set trust = 2, account = x.account
from (
    select u.order_id, u.account
    from unnest($1::text[], $2::text[]) as u(order_id, account)
    join cuadre.sync as held using (order_id)
    order by u.order_id
    for update of held
) as x
where s.order_id = x.order_id and s.trust < 2;

-- name: keep_unreadable_payload
-- The raw text that could not be read, for the operator who looks into the quarantine.
insert into cuadre.unreadable_payloads as u (order_id, account, reason, body, seen_at)
select order_id, account, reason, body, now()
from unnest($1::text[], $2::text[], $3::text[], $4::text[]) as x(order_id, account, reason, body)
order by order_id
on conflict (order_id) do update set
    account = excluded.account, reason = excluded.reason, body = excluded.body, seen_at = excluded.seen_at;

-- name: forget_unreadable_payload
-- Orders that were read after all.
delete from cuadre.unreadable_payloads where order_id = any($1::text[]);

-- name: assign_positions
-- Gives committed events their positions, one writer at a time, in the order they were written: a reader that
-- follows `position` misses none although transactions commit out of order (invariant I6).
with turn as (
    select pg_try_advisory_xact_lock(7236001) as mine
),
waiting as (
    select e.event_id, e.order_id, e.period
    from cuadre.events as e
    where e.position is null and (select mine from turn)
    order by e.event_id
    limit 1000
),
numbered as (
    select event_id, order_id, period, nextval('cuadre.events_position_seq') as position
    from (select * from waiting order by event_id) as w
),
given as (
    -- `position is null` again: our snapshot may be older than the lock, and a position is given once.
    update cuadre.events as e set position = n.position
    from numbered as n
    where e.order_id = n.order_id and e.event_id = n.event_id and e.period = n.period and e.position is null
    returning e.event_id
)
select (select mine from turn) as mine, (select count(*) from given) as given;

-- name: read_rules_due
-- Orders for which a rule about time may have changed its mind.
select order_id
from cuadre.orders
where rules_due_at <= now()
order by rules_due_at
limit 64;

-- name: read_due_gauges
-- How much is due and how long the oldest waits, of the accounts that somebody looks after, known orders and strangers
-- apart: anybody can make strangers wait. What sits in quarantine; of that, strangers of which the provider has shown
-- nothing. All queues are named, so that the index leads to what is due and to nothing else.
with due as (
    select known, count(s.due_at) as orders, coalesce(extract(epoch from now() - min(s.due_at)), 0) as oldest_seconds
    from unnest(array[true, false]) as k(known)
    left join lateral (
        select due_at
        from cuadre.sync
        where account = any($1::text[]) and (trust > 0) = k.known
          and asked = any(array[true, false]) and due_at <= now()
    ) as s on true
    group by known
),
quarantined as (
    select
        count(*) as orders,
        count(*) filter (where trust = 0 and quarantine_reason in ('not_found', 'bad_request')) as strangers
    from cuadre.sync
    where quarantined_at is not null
)
select
    (select orders from due where known) as orders_due,
    (select oldest_seconds from due where known)::double precision as oldest_due_seconds,
    (select orders from due where not known) as strangers_due,
    (select oldest_seconds from due where not known)::double precision as oldest_stranger_due_seconds,
    q.orders as orders_quarantined,
    q.strangers as strangers_quarantined
from quarantined as q;

-- name: read_orders_of_nobody
-- Accounts that are not among `$1` and have known orders to look at, and how many of these are due. Steps from account to
-- account along the index, whatever the number of orders.
with recursive present as (
    (select account from cuadre.sync where due_at is not null order by account limit 1)
    union all
    select (
        select s.account from cuadre.sync as s
        where s.due_at is not null and s.account > p.account
        order by s.account
        limit 1
    )
    from present as p
    where p.account is not null
)
select p.account, waiting.due
from present as p
cross join lateral (
    select count(*) as due
    from cuadre.sync as s
    where s.account = p.account and (s.trust > 0) = true and s.asked = any(array[true, false])
      and s.due_at <= now()
) as waiting
where p.account <> all($1::text[])
  and exists (
      select from cuadre.sync as s
      where s.account = p.account and (s.trust > 0) = true and s.asked = any(array[true, false])
        and s.due_at is not null
  )
order by p.account;

-- name: forget_strangers
-- Up to `$1` rows about orders that only unverified notifications spoke of and the provider does not know, a month in
-- quarantine, with no look ahead and nothing stored. Their notifications stay. Returns how many went.
with old as (
    select s.order_id
    from cuadre.sync as s
    where s.quarantined_at < now() - interval '30 days'
      and s.trust = 0
      and s.quarantine_reason in ('not_found', 'bad_request')
      and s.due_at is null
      and (s.leased_until is null or s.leased_until <= now())
      and not exists (select from cuadre.orders as o where o.order_id = s.order_id)
    order by s.quarantined_at
    limit $1
),
locked as (
    -- The row may have been marked meanwhile: asked again once it is held.
    select s.order_id
    from cuadre.sync as s
    join old using (order_id)
    where s.trust = 0 and s.due_at is null and s.quarantined_at < now() - interval '30 days'
      and (s.leased_until is null or s.leased_until <= now())
    order by s.order_id
    for update of s skip locked
),
gone as (
    delete from cuadre.sync as s using locked as l where s.order_id = l.order_id returning s.order_id
)
select count(*) from gone;

-- name: read_looks_next_day
-- How many looks at known orders fall due within a day, of the accounts that somebody looks after. Both queues are
-- named, so that the index leads to these and to nothing else.
select count(*) as looks
from cuadre.sync
where account = any($1::text[]) and (trust > 0) = true and asked = any(array[true, false])
  and due_at < now() + interval '1 day';

-- name: read_order_gauges
-- Stored orders by type and status.
select type, status, count(*) as orders from cuadre.orders group by type, status;

-- name: read_discrepancy_gauges
-- Open discrepancies by rule.
select rule, count(*) as open from cuadre.discrepancies where resolved_at is null group by rule;

-- name: read_default_partitions
-- Whether rows landed where no month was made for them.
select 'notifications' as table_name, exists (select from cuadre.notifications_default) as has_rows
union all select 'order_versions', exists (select from cuadre.order_versions_default)
union all select 'fetches', exists (select from cuadre.fetches_default)
union all select 'events', exists (select from cuadre.events_default);

-- name: ensure_partitions
-- Makes this month's partitions and those of the months ahead.
select cuadre.ensure_partitions($1);
