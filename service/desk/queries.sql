-- name: record_command
-- Writes an intent down, due at once; no row where the account has used that key already.
insert into cuadre.commands (
    command_id, account, idempotency_key, request_hash, asked_by, asked_at, kind, type, order_id, external_reference,
    point_of_sale, payment_id, amount, currency, reserved, body, options, provider_key, status, valid_until,
    expires_at, due_at
)
select
    $1, $2, $3, $4, $5, moment.now, $6, $7, $8, $9, $10, $11, $12, $13, $14::jsonb, $15, $16::jsonb, $17, 'waiting',
    moment.now + make_interval(secs => $18), moment.now + make_interval(secs => $19), moment.now
from (select clock_timestamp() as now) as moment
on conflict (account, idempotency_key) do nothing
returning *;

-- name: read_command
-- One command by its id.
select * from cuadre.commands where command_id = $1;

-- name: read_command_by_key
-- What a key of the account has been used for.
select * from cuadre.commands where account = $1 and idempotency_key = $2;

-- name: read_repeats_elsewhere
-- Commands of any account under this key, for the same request and asked by the same caller. The accounts are found one
-- by one in the index of keys, because a key alone is in none.
with recursive known as (
    (select c.account from cuadre.commands as c order by c.account limit 1)
    union all
    select (select c.account from cuadre.commands as c where c.account > known.account order by c.account limit 1)
    from known
    where known.account is not null
)
select c.*
from known
join cuadre.commands as c on c.account = known.account and c.idempotency_key = $1
where c.request_hash = $2 and c.asked_by = $3
order by c.account;

-- name: lock_command
-- One command, locked: whether it may be withdrawn or settled by hand is decided by who gets here first.
select *, coalesce(leased_until > clock_timestamp(), false) as is_held from cuadre.commands where command_id = $1
for update;

-- name: read_order_asked_about
-- The stored order that a cancellation or refund is about.
select order_id, account, type, external_reference, status, currency,
    coalesce(payload #>> '{config,qr,external_pos_id}', payload #>> '{config,point,terminal_id}') as point_of_sale
from cuadre.orders
where order_id = $1;

-- name: lock_order_asked_about
-- The same, its row locked: reservations of one order are made one after the other.
select order_id, account, type, external_reference, status, currency,
    coalesce(payload #>> '{config,qr,external_pos_id}', payload #>> '{config,point,terminal_id}') as point_of_sale
from cuadre.orders
where order_id = $1
for update;

-- name: read_payments
-- The order's payments as its last answer shows them.
select payment_id, status, status_detail, amount, paid_amount, refunded_amount, tip_amount, method_type
from cuadre.payments
where order_id = $1 and vanished_at is null
order by position;

-- name: read_refunds
-- The order's refunds as its last answer shows them, and when each was first seen.
select refund_id, payment_id, status, status_detail, amount, first_seen_at
from cuadre.refunds
where order_id = $1 and vanished_at is null
order by position;

-- name: read_commands_of_order
-- Everything that was asked here for one order.
select * from cuadre.commands where order_id = $1 order by asked_at, command_id;

-- name: read_latest_currency
-- The currency of the account's latest stored order.
select currency from cuadre.orders
where account = $1 and currency is not null
order by updated_at desc, order_id desc
limit 1;

-- name: read_due_commands
-- How many commands of each account are due: those that need a call, those that wait to be seen at the provider, and
-- those that nobody waits for any more, or that something newer has come before.
select
    account,
    count(*) filter (where status in ('waiting', 'sending', 'unknown') and not stale) as to_call,
    count(*) filter (where status = 'accepted') as to_see,
    count(*) filter (where stale) as to_withdraw
from (
    select c.account, c.status,
        c.status = 'waiting' and c.maybe_sent_at is null and (
            coalesce(c.valid_until <= now(), false)
            or surface is not null and exists (
                select from cuadre.newer_sales(c.account, c.point_of_sale, surface, c.asked_at, c.command_id) as later
                where not (later.status = 'sending' and later.leased_until > now())
            )
        ) as stale
    from cuadre.commands as c
    cross join lateral (select cuadre.shown_on(c.kind, c.type, c.options) as surface) as shown
    where c.due_at <= now() and (c.leased_until is null or c.leased_until <= now())
) as due
group by account
order by account;

-- name: lock_claims
-- Of these accounts those whose commands no other process is claiming at this moment; until the transaction ends this
-- one alone does. A claim that follows sees all that was claimed before it, so that no two sales of one point of sale
-- are claimed side by side. A process that stands still meanwhile loses them after 3 s, whatever its session is set to:
-- behind a pooler it is set to nothing.
select account
from set_config('idle_in_transaction_session_timeout', '3000', true)
cross join unnest($1::text[]) as a(account)
where pg_try_advisory_xact_lock(hashtextextended('desk claims ' || account, 0));

-- name: claim_due_commands
-- Takes up to `room` due commands per account, `$3` in all, oldest first, under a lease of `$4` seconds. From this
-- commit on they may have been sent, but for those that are never sent again: `$5` seconds after the first attempt, or
-- because a repeat would tell nothing. `is_first` says that no earlier attempt may have reached the provider.
with lanes as (
    select * from unnest($1::text[], $2::integer[]) with ordinality as l(account, room, turn)
),
picked as (
    select
        due.command_id, due.maybe_sent_at is null as is_first, due.status in ('sending', 'unknown') as was_unknown,
        due.is_overtaken,
        -- A sale that nobody waits for any more is not made late, nor over the next customer's on the same point of
        -- sale: somebody else would pay it.
        due.must_compare or due.is_overtaken or (due.kind = 'create' and coalesce(due.valid_until <= now(), false))
            or coalesce(due.maybe_sent_at <= now() - make_interval(secs => $5), false) as is_past
    from (select * from lanes order by turn) as lane
    cross join lateral (
        select c.command_id, c.kind, c.status, c.maybe_sent_at, c.valid_until,
            c.options ? 'must_compare' as must_compare,
            surface is not null and exists (
                select from cuadre.newer_sales(c.account, c.point_of_sale, surface, c.asked_at, c.command_id)
            ) as is_overtaken
        from cuadre.commands as c
        cross join lateral (select cuadre.shown_on(c.kind, c.type, c.options) as surface) as shown
        where c.account = lane.account
          and c.status in ('waiting', 'sending', 'unknown')
          and c.due_at <= now()
          and (c.leased_until is null or c.leased_until <= now())
          and not (c.status = 'waiting' and c.maybe_sent_at is null and coalesce(c.valid_until <= now(), false))
          -- What is put on a point of sale replaces what is there, so its commands go out in the order they were asked.
          and not (c.kind in ('legacy_put', 'legacy_delete') and exists (
              select from cuadre.commands as earlier
              where earlier.settled_at is null and earlier.asked_at <= c.asked_at
                and earlier.account = c.account and earlier.point_of_sale = c.point_of_sale
                and earlier.kind in ('legacy_put', 'legacy_delete')
                and (earlier.asked_at, earlier.command_id) < (c.asked_at, c.command_id)
          ))
          -- So do all sales that one printed QR or terminal shows, as far as they are due: a call that hangs is waited
          -- for no longer than it may last, which is 10 s, and 5 s from the claim to its begin.
          and not (surface is not null and exists (
              select from cuadre.commands as earlier
              where earlier.settled_at is null and earlier.asked_at <= c.asked_at
                and earlier.account = c.account and earlier.point_of_sale = c.point_of_sale
                and cuadre.shown_on(earlier.kind, earlier.type, earlier.options) = surface
                and (earlier.asked_at, earlier.command_id) < (c.asked_at, c.command_id)
                and (
                    earlier.due_at <= now() and coalesce(earlier.leased_until <= now(), true)
                    or earlier.status = 'sending' and earlier.leased_until > now()
                       and earlier.attempted_at > now() - interval '16 seconds'
                )
          ))
        order by c.due_at
        limit lane.room
        for update of c skip locked
    ) as due
    -- What something newer has come before, and never left, is withdrawn.
    where not (due.is_overtaken and due.maybe_sent_at is null)
    limit $3
)
update cuadre.commands as c set
    status = case when picked.is_past then 'unknown' else 'sending' end,
    maybe_sent_at = coalesce(c.maybe_sent_at, now()),
    attempted_at = case when picked.is_past then c.attempted_at else now() end,
    attempts = c.attempts + 1,
    leased_until = now() + make_interval(secs => $4),
    lease_token = gen_random_uuid()
from picked
where c.command_id = picked.command_id
returning
    c.*, picked.is_first, picked.is_past, picked.was_unknown,
    extract(epoch from now() - c.maybe_sent_at)::double precision as age_seconds,
    (
        select extract(epoch from now() - o.created_at)::double precision
        from cuadre.orders as o
        where o.order_id = c.order_id
    ) as order_age_seconds,
    not picked.is_overtaken and not exists (
        select from cuadre.commands as later
        where later.account = c.account and later.point_of_sale = c.point_of_sale and later.asked_at > c.asked_at
          and c.kind in ('legacy_put', 'legacy_delete') and later.kind in ('legacy_put', 'legacy_delete')
          and later.status not in ('withdrawn', 'refused')
    ) as is_newest;

-- name: release_command
-- Gives a claim back unserved: as it was, and due at once.
update cuadre.commands set
    status = case when $3 then 'waiting' else 'unknown' end,
    maybe_sent_at = case when $3 then null else maybe_sent_at end,
    attempts = attempts - 1,
    leased_until = null,
    lease_token = null,
    due_at = clock_timestamp()
where command_id = $1 and lease_token = $2;

-- name: postpone_commands
-- Commands that cannot go out now, because their account is paused or unknown here: due again a little later, with the
-- reason. One whose runner died while it was being sent is unknown from now on.
with due as (
    select c.command_id, p.seconds, p.reason
    from unnest($1::text[], $2::double precision[], $3::text[]) as p(account, seconds, reason)
    join cuadre.commands as c on c.account = p.account
    where c.status in ('waiting', 'sending', 'unknown')
      and c.due_at <= now()
      and (c.leased_until is null or c.leased_until <= now())
    order by c.command_id
    for update of c skip locked
)
update cuadre.commands as c set
    status = case when c.status = 'sending' then 'unknown' else c.status end,
    due_at = now() + make_interval(secs => due.seconds),
    last_error = due.reason,
    leased_until = null,
    lease_token = null
from due
where c.command_id = due.command_id;

-- name: settle_claim
-- What became of a claim. A lease that was lost settles nothing: whoever holds the command now will.
update cuadre.commands as c set
    status = $3,
    order_id = coalesce(c.order_id, $4),
    maybe_sent_at = case when $5 then null else c.maybe_sent_at end,
    options = c.options || coalesce($6::jsonb, '{}'),
    accepted_at = case when $3 in ('accepted', 'done') then coalesce(c.accepted_at, moment.now) else c.accepted_at end,
    settled_at = case when $3 in ('done', 'refused') then moment.now end,
    provider_status = $7,
    provider_code = $8,
    message = $9,
    refund_ids = case when cardinality($10::text[]) > 0 then $10::text[] else c.refund_ids end,
    answer = coalesce($11::jsonb, c.answer),
    last_error = $12,
    body = $13,
    -- A sale that can still be withdrawn is looked at no later than its end.
    due_at = case
        when $14::double precision is null then null
        when $3 = 'waiting' then least(moment.now + make_interval(secs => $14), c.valid_until)
        else moment.now + make_interval(secs => $14)
    end,
    leased_until = null,
    lease_token = null
from (select clock_timestamp() as now) as moment
where c.command_id = $1 and c.lease_token = $2
returning c.*;

-- name: settle_locked
-- What became of a command whose row is locked by this transaction: withdrawn, or settled by somebody's word.
update cuadre.commands as c set
    status = $2,
    order_id = coalesce(c.order_id, $3),
    settled_at = moment.now,
    message = $4,
    -- A person's word is no proof: the provider's answer to another command may be one.
    options = case when $2 = 'done' then c.options || '{"adopted": true}' else c.options end,
    answer = coalesce($5::jsonb, c.answer),
    body = $6,
    due_at = null,
    leased_until = null,
    lease_token = null
from (select clock_timestamp() as now) as moment
where c.command_id = $1
returning c.*;

-- name: lock_stale_commands
-- Sales that could not be sent while anybody waited for them, or before something newer on their point of sale.
select c.*, coalesce(c.valid_until <= now(), false) as is_over
from cuadre.commands as c
cross join lateral (select cuadre.shown_on(c.kind, c.type, c.options) as surface) as shown
where c.status = 'waiting' and c.maybe_sent_at is null and c.due_at <= now()
  and (c.leased_until is null or c.leased_until <= now())
  and (
      c.valid_until <= now()
      or surface is not null and exists (
          select from cuadre.newer_sales(c.account, c.point_of_sale, surface, c.asked_at, c.command_id) as later
          where not (later.status = 'sending' and later.leased_until > now())
      )
  )
order by c.command_id
limit 100
for update of c skip locked;

-- name: read_commands_to_see
-- Accepted commands that are due to be compared with what is stored of their orders.
select command_id, order_id
from cuadre.commands
where status = 'accepted' and due_at <= now() and (leased_until is null or leased_until <= now())
order by due_at
limit 100;

-- name: read_nameless_refunds
-- Accepted refunds of which no answer has told the ids.
select * from cuadre.commands
where command_id = any($1::text[]) and status = 'accepted' and kind = 'refund' and refund_ids = '{}'
order by command_id;

-- name: name_refunds
-- The ids of the refunds that a command has made, found by comparison and so adopted: an answer may prove otherwise.
update cuadre.commands set refund_ids = $2, options = options || '{"adopted": true}' where command_id = $1;

-- name: take_back_adopted
-- An answer proves whose this order, or these refunds, are: commands that had only adopted them are open again. One that
-- was accepted waits to be seen, another is looked for; it is not sent again. `$6` is the sentence for the till.
with mistaken as (
    select command_id from cuadre.commands
    where command_id <> $1 and kind = $2 and options ? 'adopted'
      and order_id = $3 and (kind = 'create' or refund_ids && $4::text[])
    order by command_id
    for update
)
update cuadre.commands as c set
    status = case
        when c.kind = 'refund' and c.provider_status between 200 and 299 then 'accepted' else 'unknown'
    end,
    order_id = case when c.kind = 'create' then null else c.order_id end,
    refund_ids = '{}',
    options = jsonb_build_object('must_compare', $5::double precision) || (c.options - 'adopted'),
    accepted_at = case when c.kind = 'refund' and c.provider_status between 200 and 299 then c.accepted_at end,
    settled_at = null,
    provider_code = 'taken',
    message = $6,
    last_error = 'taken',
    due_at = clock_timestamp(),
    leased_until = null,
    lease_token = null
from mistaken
where c.command_id = mistaken.command_id
returning c.*;

-- name: settle_seen
-- Accepted commands that the stored order shows as done, or shows to have failed; `$2` are the statuses of orders that
-- ended without money, `$3` those of paid ones, `$4` to `$6` the sentences for the till: `$6` has a place for what was
-- given back although the rest failed. The order's lock is held.
with asked as (
    select * from cuadre.commands
    where command_id = any($1::text[]) and status = 'accepted' and due_at <= now()
    order by command_id
    for update skip locked
),
seen as (
    select
        a.command_id,
        case
            when a.kind = 'cancel' and o.claimed_at > a.attempted_at and o.status = any($2::text[]) then 'done'
            when a.kind = 'cancel' and o.claimed_at > a.attempted_at and o.status = any($3::text[]) then 'refused'
            when a.kind = 'refund' and r.processed = cardinality(a.refund_ids) and r.processed > 0 then 'done'
            when a.kind = 'refund' and r.failed > 0 and r.failed + r.processed = cardinality(a.refund_ids)
                then 'refused'
        end as status,
        r.given_back
    from asked as a
    join cuadre.orders as o on o.order_id = a.order_id
    cross join lateral (
        select
            count(*) filter (where one.status = 'processed') as processed,
            count(*) filter (where one.status = 'failed') as failed,
            string_agg(
                concat_ws(' ', one.amount, a.currency, 'of payment ' || one.payment_id), ' and ' order by one.position
            ) filter (where one.status = 'processed') as given_back
        from cuadre.refunds as one
        where one.order_id = a.order_id and one.refund_id = any(a.refund_ids) and one.vanished_at is null
    ) as r
)
update cuadre.commands as c set
    status = seen.status,
    settled_at = clock_timestamp(),
    provider_code = case
        when seen.status = 'done' then nullif(c.provider_code, 'taken') when c.kind = 'cancel' then 'paid_first' else 'refund_failed'
    end,
    message = case
        when seen.status = 'done' then null when c.kind = 'cancel' then $4
        when seen.given_back is null then $5 else format($6, seen.given_back)
    end,
    last_error = null,
    due_at = null
from seen
where c.command_id = seen.command_id and seen.status is not null
returning c.*;

-- name: wait_to_see
-- Accepted commands that the stored order does not show yet: looked at again after as long as they have waited, at most
-- five minutes. Tells whose orders deserve another look by now.
with waiting as (
    select command_id from cuadre.commands
    where command_id = any($1::text[]) and status = 'accepted' and due_at <= now()
    order by command_id
    for update skip locked
)
update cuadre.commands as c set
    due_at = clock_timestamp() + least(
        greatest(clock_timestamp() - c.accepted_at, interval '250 milliseconds'), interval '5 minutes')
from waiting
where c.command_id = waiting.command_id
returning c.order_id, c.account, clock_timestamp() - c.accepted_at >= interval '1 second' as is_late;

-- name: mark_orders_due
-- Looks at these orders are owed now, because a command changed them or may have. Trusted like an operator's wish; a
-- stored order keeps its account.
insert into cuadre.sync as s (order_id, account, trust, requested, requested_trusted, due_at, cause, marked_at)
select u.order_id, u.account, 1, 1, 1, now(), 'desk', now()
from unnest($1::text[], $2::text[]) as u(order_id, account)
order by u.order_id
on conflict (order_id) do update set
    account = case when s.trust < 2 then excluded.account else s.account end,
    trust = greatest(s.trust, excluded.trust),
    requested = s.requested + 1,
    requested_trusted = s.requested + 1,
    due_at = least(s.due_at, now()),
    cause = 'desk',
    notification_id = null,
    marked_at = now();

-- name: judge_orders_soon
-- The rules compare these orders with what was asked of them, and that has changed: they are evaluated again without a
-- look.
with locked as (
    select order_id from cuadre.orders where order_id = any($1::text[]) order by order_id for update
)
update cuadre.orders as o set rules_due_at = least(o.rules_due_at, now())
from locked
where o.order_id = locked.order_id;

-- name: read_last_look
-- The stored order's status, and whether it was asked for after `$2`; how long it is until such a look can begin.
select status, type, claimed_at > $2 as is_fresh,
    extract(epoch from $2 - clock_timestamp())::double precision as fresh_in_seconds
from cuadre.orders
where order_id = $1;

-- name: read_stored_candidates
-- Stored orders that a lost creation may have made. A Point order may tell its amount by its payment only.
select o.order_id
from cuadre.orders as o
where o.account = $1 and o.external_reference = $2 and o.created_at >= $3 and o.type = $4
  and coalesce(
      o.total_amount, (select sum(p.amount) from cuadre.payments as p where p.order_id = o.order_id)
  ) = $5
order by o.created_at, o.order_id;

-- name: read_owned_orders
-- Which of these orders other creations have made.
select order_id from cuadre.commands
where order_id = any($1::text[]) and kind = 'create' and command_id <> $2;

-- name: are_refunds_owned
-- Whether another command of the order `$1` has made one of these refunds.
select exists (
    select from cuadre.commands
    where order_id = $1 and kind = 'refund' and refund_ids && $2::text[] and command_id <> $3
);

-- name: read_open_unknown_outcome
-- The open discrepancy that says that this command's outcome is unknown.
select id, order_id, account, subject_id, severity, amount_at_stake, currency, expected, actual, explanation
from cuadre.discrepancies
where rule = 'unknown_outcome' and subject_id = $1 and resolved_at is null;

-- name: read_unknown_without_discrepancy
-- Commands whose outcome has been unknown for `$1` seconds, and nobody has been told.
select command_id, order_id
from cuadre.commands as c
where c.settled_at is null and c.status in ('sending', 'unknown')
  and c.maybe_sent_at <= now() - make_interval(secs => $1)
  and not exists (
      select from cuadre.discrepancies as d
      where d.rule = 'unknown_outcome' and d.subject_id = c.command_id and d.resolved_at is null
  )
order by c.asked_at
limit 100;

-- name: read_command_gauges
-- Open commands by kind and status, and how long the oldest of each has waited.
select kind, status, count(*) as commands,
    extract(epoch from now() - min(asked_at))::double precision as oldest_seconds
from cuadre.commands
where settled_at is null
group by kind, status;

-- name: read_chargebacks
-- An order's chargebacks that the provider still shows.
select chargeback_id, payment_id, status, amount
from cuadre.chargebacks
where order_id = $1 and vanished_at is null
order by position;

-- name: hurry_place
-- Something newer was asked for a point of sale: what waits there for a later attempt is looked at now, because it
-- stands in the way. What is under way is locked, so that it is settled before this commit, or sees it.
with standing as (
    select command_id, status, due_at, leased_until
    from cuadre.commands
    where account = $1 and point_of_sale = $2 and kind in ('legacy_put', 'legacy_delete') and settled_at is null
    order by command_id
    for update
)
update cuadre.commands as c set due_at = now()
from (
    select command_id from standing
    where status in ('waiting', 'unknown') and due_at > now() and (leased_until is null or leased_until <= now())
) as waiting
where c.command_id = waiting.command_id;

-- name: take_late_success
-- What the provider answered to a runner whose lease was over: a command that was settled as refused meanwhile was not.
update cuadre.commands set
    status = case when kind = 'create' then 'done' else 'accepted' end,
    order_id = coalesce(order_id, $2),
    refund_ids = case when cardinality($3::text[]) > 0 then $3::text[] else refund_ids end,
    options = options - 'adopted',
    accepted_at = clock_timestamp(),
    settled_at = case when kind = 'create' then clock_timestamp() end,
    provider_status = $4,
    provider_code = null,
    message = null,
    due_at = case when kind <> 'create' then clock_timestamp() end
where command_id = $1 and status = 'refused' and kind in ('create', 'cancel', 'refund')
returning *;

-- name: name_refunds_by_reference
-- Orders that Mercado Pago shows no longer are read by their payments, which call a refund by its number there: the
-- `reference_id` that the answer to the command told.
update cuadre.commands as c set refund_ids = found.ids
from (
    select a.command_id, array_agg(r.refund_id order by r.position) as ids
    from cuadre.commands as a
    join cuadre.refunds as r on r.order_id = a.order_id and r.vanished_at is null
    where a.command_id = any($1::text[]) and a.status = 'accepted' and a.kind = 'refund'
      and r.refund_id <> all(a.refund_ids)
      and r.refund_id in (
          select told.reference #>> '{}'
          from jsonb_path_query(a.answer, '$.transactions.refunds[*].reference_id') as told(reference)
      )
    group by a.command_id
) as found
where c.command_id = found.command_id and cardinality(c.refund_ids) = cardinality(found.ids);
