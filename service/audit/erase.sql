-- name: find_payer_candidates
-- What may name this payer, by order, or by its own key where it belongs to none: every stored text in which the payer's
-- id or e-mail stands, in whatever case. Whether it stands there as a payer's is looked at afterwards.
select order_id as key from cuadre.orders where position(lower($1) in lower(payload::text)) > 0
union
select order_id from cuadre.order_versions where position(lower($1) in lower(payload::text)) > 0
union
select coalesce(order_id, 'notification ' || id || ' ' || period) from cuadre.notifications
where position(lower($1) in lower(body::text)) > 0
union
select coalesce(order_id, command_id) from cuadre.commands
where position(lower($1) in lower(body)) > 0 or position(lower($1) in lower(answer::text)) > 0
union
select order_id from cuadre.unreadable_payloads where position(lower($1) in lower(body)) > 0
order by 1;

-- name: read_payer_texts
-- Every stored text under these keys that may name a payer, with the key of its row.
select 'orders' as place, order_id as key, ''::text as row_key, payload::text as text from cuadre.orders
where order_id = any($1::text[])
union all
select 'order_versions', order_id, version || ' ' || period, payload::text from cuadre.order_versions
where order_id = any($1::text[])
union all
select 'notifications', order_id, id || ' ' || period, body::text from cuadre.notifications
where order_id = any($1::text[]) and body is not null
union all
select 'notifications', 'notification ' || id || ' ' || period, id || ' ' || period, body::text
from cuadre.notifications
where id = any($2::bigint[]) and order_id is null and body is not null
union all
select 'commands', order_id, command_id || ' body', body from cuadre.commands
where order_id = any($1::text[]) and body is not null and settled_at is not null
union all
select 'commands', command_id, command_id || ' body', body from cuadre.commands
where command_id = any($1::text[]) and order_id is null and body is not null and settled_at is not null
union all
select 'commands', order_id, command_id || ' answer', answer::text from cuadre.commands
where order_id = any($1::text[]) and answer is not null
union all
select 'commands', command_id, command_id || ' answer', answer::text from cuadre.commands
where command_id = any($1::text[]) and order_id is null and answer is not null
union all
select 'unreadable_payloads', order_id, '', body from cuadre.unreadable_payloads where order_id = any($1::text[]);

-- name: erase_in_orders
-- The stored order without its payer; what is read of it later is stored without one, too.
update cuadre.orders as o set
    payload = coalesce(x.payload::jsonb, o.payload),
    payload_hash = coalesce(x.payload_hash, o.payload_hash),
    payer_erased_at = coalesce(o.payer_erased_at, now())
from unnest($1::text[], $2::text[], $3::bytea[]) as x(order_id, payload, payload_hash)
where o.order_id = x.order_id;

-- name: erase_in_versions
-- Earlier states without their payer.
update cuadre.order_versions as v set payload = x.payload::jsonb
from unnest($1::text[], $2::integer[], $3::date[], $4::text[]) as x(order_id, version, period, payload)
where v.order_id = x.order_id and v.version = x.version and v.period = x.period;

-- name: erase_in_notifications
-- What was told, without the payer.
update cuadre.notifications as n set body = x.body::jsonb
from unnest($1::bigint[], $2::date[], $3::text[]) as x(id, period, body)
where n.id = x.id and n.period = x.period;

-- name: erase_in_command_bodies
-- What was asked for here and is settled, without the payer.
update cuadre.commands as c set body = x.body
from unnest($1::text[], $2::text[]) as x(command_id, body)
where c.command_id = x.command_id;

-- name: erase_in_command_answers
-- What was answered to it, without the payer.
update cuadre.commands as c set answer = x.answer::jsonb
from unnest($1::text[], $2::text[]) as x(command_id, answer)
where c.command_id = x.command_id;

-- name: forget_unreadable_payloads
-- Texts that could not be read cannot be searched either.
delete from cuadre.unreadable_payloads where order_id = any($1::text[]);
