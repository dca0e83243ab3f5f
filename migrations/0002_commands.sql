-- The order desk: what somebody here asked Mercado Pago to do (create, cancel, refund; the legacy attended QR), written
-- down before it is sent, and what became of it.

create table cuadre.commands (
    command_id         text not null,
    account            text not null,
    -- The caller's key: the same key and request give the same answer for ever, another request under it is refused.
    idempotency_key    text not null,
    request_hash       bytea not null,
    asked_by           text not null,
    asked_at           timestamptz not null,
    -- create, cancel, refund, legacy_put, legacy_delete
    kind               text not null,
    -- qr, point, online, legacy_qr
    type               text,
    -- Known from the start (cancel, refund), or from the provider's answer on (create).
    order_id           text,
    external_reference text,
    -- `external_pos_id` of a QR, `terminal_id` of a Point.
    point_of_sale      text,
    payment_id         text,
    -- What was asked: the order's total, or what is to be refunded.
    amount             numeric,
    currency           text,
    -- A refund's share of each payment, {"payment_id": "amount"}, taken under the order's lock.
    reserved           jsonb not null default '{}',
    -- What is sent, the same text at every attempt; null sends no body. Card tokens are taken out once it is settled.
    body               text,
    -- What else the call needs: `ttl_seconds`, `external_store_id`, `at_terminal`, `generation`.
    options            jsonb not null default '{}',
    -- The provider's idempotency key: one per command, the same at every attempt.
    provider_key       text not null,
    -- waiting, sending, unknown, accepted; done, refused, withdrawn
    status             text not null,
    attempts           integer not null default 0,
    -- The first attempt that may have reached the provider. Null: provably unsent, so it can still be withdrawn.
    maybe_sent_at      timestamptz,
    attempted_at       timestamptz,
    -- A creation that could not be sent by then is withdrawn: nobody waits for that sale any more.
    valid_until        timestamptz,
    -- The provider said yes; for a cancellation or a refund it is done when a GET shows it.
    accepted_at        timestamptz,
    settled_at         timestamptz,
    provider_status    integer,
    provider_code      text,
    -- One sentence for the person at the till.
    message            text,
    -- The provider's ids of the refunds that this command made.
    refund_ids         text[] not null default '{}',
    -- The provider's answer that decided it.
    answer             jsonb,
    last_error         text,
    -- When what was put on a point of sale stops being payable, by what was asked.
    expires_at         timestamptz,
    -- Whether somebody owes it an attempt or a look, as in `sync`.
    due_at             timestamptz,
    leased_until       timestamptz,
    lease_token        uuid,
    primary key (command_id)
) with (fillfactor = 70);

create unique index commands_once on cuadre.commands (account, idempotency_key);
create index commands_due on cuadre.commands (due_at) where due_at is not null;
create index commands_by_order on cuadre.commands (order_id) where order_id is not null;
create index commands_by_reference on cuadre.commands (account, external_reference)
    where external_reference is not null;
create index commands_by_point_of_sale on cuadre.commands (account, point_of_sale, asked_at)
    where point_of_sale is not null;
create index commands_unsettled on cuadre.commands (asked_at) where settled_at is null;
create index commands_by_time on cuadre.commands (asked_at desc, command_id desc);
