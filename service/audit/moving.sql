-- An account that has another name now: what is stored under the old one becomes the new one's.

-- name: count_by_account
-- What is stored under each account's name: orders, looks ahead and due of known orders, commands; also accounts of
-- which nothing but a search is stored.
select
    account, sum(orders)::bigint as orders, sum(scheduled)::bigint as scheduled, sum(due)::bigint as due,
    sum(commands)::bigint as commands
from (
    select account, count(*) as orders, 0 as scheduled, 0 as due, 0 as commands from cuadre.orders group by account
    union all
    select
        account, 0, count(*) filter (where trust > 0 and due_at is not null),
        count(*) filter (where trust > 0 and due_at <= now()), 0
    from cuadre.sync
    group by account
    union all
    select account, 0, 0, 0, count(*) from cuadre.commands group by account
    union all
    select account, 0, 0, 0, 0 from cuadre.sweeps
    union all
    select account, 0, 0, 0, 0 from cuadre.completeness
) as stored
group by account
order by account;

-- name: count_to_move
-- What is stored under the name `$1`, and whether its searches are.
select
    (select count(*) from cuadre.orders where account = $1) as orders,
    (select count(*) from cuadre.sync where account = $1) as sync_rows,
    (select count(*) from cuadre.commands where account = $1) as commands,
    exists (select from cuadre.sweeps where account = $1)
        or exists (select from cuadre.completeness where account = $1) as searched;

-- name: read_keys_taken
-- Commands of `$1` whose idempotency key the account `$2` has used, too: the same key means one thing for ever.
select c.command_id, c.idempotency_key
from cuadre.commands as c
where c.account = $1
  and exists (
      select from cuadre.commands as t where t.account = $2 and t.idempotency_key = c.idempotency_key
  )
order by c.command_id;

-- name: read_ids_of_account
-- The next orders by id, stored or only looked for, under the name `$1`.
select order_id
from (
    (select order_id from cuadre.orders where account = $1 and order_id > $2 order by order_id limit $3)
    union
    (select order_id from cuadre.sync where account = $1 and order_id > $2 order by order_id limit $3)
) as named
order by order_id
limit $3;

-- name: move_orders
-- Of the orders `$3`, those stored under the name `$1` are `$2`'s, and what belongs to them: open and closed
-- discrepancies, excuses, texts that could not be read. What was recorded of the past keeps the name of its time.
with locked as (
    select order_id from cuadre.orders where order_id = any($3::text[]) and account = $1 order by order_id for update
),
found as (
    select id, order_id
    from cuadre.discrepancies
    where order_id = any($3::text[]) and account = $1
    order by order_id, id
    for update
),
judged as (
    update cuadre.discrepancies as d set account = $2
    from found as f
    where d.order_id = f.order_id and d.id = f.id
),
excused as (
    update cuadre.excused_orders set account = $2
    where order_id in (
        select order_id from cuadre.excused_orders
        where order_id = any($3::text[]) and account = $1
        order by order_id
        for update
    )
),
unreadable as (
    update cuadre.unreadable_payloads set account = $2
    where order_id in (
        select order_id from cuadre.unreadable_payloads
        where order_id = any($3::text[]) and account = $1
        order by order_id
        for update
    )
),
moved as (
    update cuadre.orders as o set account = $2 from locked as l where o.order_id = l.order_id returning o.order_id
)
select count(*) from moved;

-- name: move_sync_rows
-- The same for the looks that are owed; after the orders, as an apply does it, so that nobody waits in a circle.
with locked as (
    select order_id from cuadre.sync where order_id = any($3::text[]) and account = $1 order by order_id for update
),
moved as (
    update cuadre.sync as s set account = $2 from locked as l where s.order_id = l.order_id returning s.order_id
)
select count(*) from moved;

-- name: move_commands
-- The next commands by id, moved where the new account has not used their key; returns them all.
with next as (
    select command_id, idempotency_key
    from cuadre.commands
    where account = $1 and command_id > $3
    order by command_id
    limit $4
    for update
),
moved as (
    update cuadre.commands as c set account = $2
    from next as n
    where c.command_id = n.command_id
      and not exists (
          select from cuadre.commands as t where t.account = $2 and t.idempotency_key = n.idempotency_key
      )
    returning c.command_id
),
told as (
    -- What is told of a creation whose order nobody knows stands under the command's own id.
    update cuadre.discrepancies as d set account = $2
    from moved as m
    where d.order_id = m.command_id and d.account = $1
)
select n.command_id, n.idempotency_key, m.command_id is not null as moved
from next as n
left join moved as m on m.command_id = n.command_id
order by n.command_id;

-- name: forget_searches
-- The searches and the certificate under the old name: the new one's are its own, and begin with their look back.
with searches as (
    delete from cuadre.sweeps where account = $1
)
delete from cuadre.completeness where account = $1;
