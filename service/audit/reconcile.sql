-- All stored orders, in the order of their ids.

-- name: count_stored_orders
-- How much there is to do, for the progress.
select count(*) from cuadre.orders where $1::text is null or account = $1;

-- name: read_orders_after
-- The next orders by id, with the references that their sales are compared under.
select order_id, account, external_reference
from cuadre.orders
where order_id > $1 and ($2::text is null or account = $2)
order by order_id
limit $3;

-- name: write_nothing
-- Whatever this transaction tries to write is refused.
set transaction read only;
