-- no-transaction
-- What is live on each printed QR and terminal: open orders only, so the index stays small.
-- squawk-ignore ban-concurrent-index-creation-in-transaction
create index concurrently if not exists orders_open_by_point_of_sale on cuadre.orders (
    account,
    (coalesce(payload #>> '{config,qr,external_pos_id}', payload #>> '{config,point,terminal_id}'))
) where status in ('created', 'at_terminal', 'processing', 'action_required');
