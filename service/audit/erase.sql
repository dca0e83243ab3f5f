-- name: find_payer_orders
-- Orders of which any stored text names this payer (`$1` as text, `$2` as a number where it is one): what is stored
-- now, what was stored before, what was asked for here (by the command's id, where no order came of it), what was told.
select order_id from cuadre.orders
where jsonb_path_exists(payload, '$.**.payer.** ? (@ == $text || @ == $number)', $1::jsonb)
union
select order_id from cuadre.order_versions
where jsonb_path_exists(payload, '$.**.payer.** ? (@ == $text || @ == $number)', $1::jsonb)
union
select order_id from cuadre.notifications
where order_id is not null
  and jsonb_path_exists(body, '$.**.payer.** ? (@ == $text || @ == $number)', $1::jsonb)
union
select coalesce(order_id, command_id) from cuadre.commands
where (
      jsonb_path_exists(body::jsonb, '$.**.payer.** ? (@ == $text || @ == $number)', $1::jsonb)
      or jsonb_path_exists(answer, '$.**.payer.** ? (@ == $text || @ == $number)', $1::jsonb)
  )
order by order_id;

-- name: read_payer_texts
-- Every stored text about these orders that may name a payer, with the key of its row.
select 'orders' as place, order_id, ''::text as row_key, payload::text as text from cuadre.orders
where order_id = any($1::text[])
union all
select 'order_versions', order_id, version || ' ' || period, payload::text from cuadre.order_versions
where order_id = any($1::text[])
union all
select 'notifications', order_id, id || ' ' || period, body::text from cuadre.notifications
where order_id = any($1::text[]) and body is not null
union all
select 'commands', order_id, command_id || ' body', body from cuadre.commands
where coalesce(order_id, command_id) = any($1::text[]) and body is not null and settled_at is not null
union all
select 'commands', order_id, command_id || ' answer', answer::text from cuadre.commands
where coalesce(order_id, command_id) = any($1::text[]) and answer is not null;

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
