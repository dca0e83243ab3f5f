-- name: read_last_document
-- The last document of a stored order that is older than `GET` is documented for (`$2`: created before), as stored.
select payload::text as payload, payload_hash, payload_altered
from cuadre.orders
where order_id = $1 and coalesce(created_at, first_seen_at) < $2;
